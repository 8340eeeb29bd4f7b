"""`m.receipt` from other servers: how far people there have read.

A receipt may be here before the event that was read, which comes from a third server: it waits for it, for a while.

Spec: https://spec.matrix.org/v1.19/server-server-api/#receipts
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from federation.room.identifiers import InvalidIdentifier, parse_event_id
from federation.wire.edus import UserReceipt, read_receipts
from homeserver.clock import Clock
from homeserver.ephemeral.inbound.rooms import find_room, speaks_for_member
from homeserver.ephemeral.receipts import READ
from homeserver.ephemeral.threads import MAIN
from homeserver.rooms.accept import Accepted
from homeserver.rooms.serve.access import PeerAccess
from homeserver.tasks import Tasks
from homeserver.userdata.read_markers import ReadMarkers
from storage.receipts import UNTHREADED, Receipt

MOST_WAITING = 5_000
"""Receipts for events that are not here; the oldest are forgotten first."""

_Key = tuple[int, str, str]
"""Room, user, thread."""


@define(eq=False)
class ReceiptsThere:
    """An `EduHandler`, and an observer of the door (`homeserver.rooms.accept.Observer`)."""

    _access: PeerAccess
    _markers: ReadMarkers
    _clock: Clock
    _tasks: Tasks
    _waiting: OrderedDict[_Key, Receipt] = field(factory=OrderedDict, init=False)
    _by_event: dict[str, set[_Key]] = field(factory=dict, init=False)
    """The keys of `_waiting` by what they wait for."""

    async def __call__(self, origin: str, content: Mapping[str, Any]) -> None:
        for room_id, users in read_receipts(content, READ):
            room = await find_room(self._access, origin, room_id)
            if room is None:
                continue
            said = []
            for user_id, about in users.items():
                if speaks_for_member(origin, user_id, room):
                    receipt = self._receipt(room.nid, user_id, about)
                    if receipt is not None:
                        said.append(receipt)
            if said:
                await self._take(said)

    def accepted(self, accepted: Accepted) -> None:
        """Events have come, and perhaps some that people elsewhere have read already."""
        if not self._waiting:
            return
        due = []
        for new in accepted.events:
            for key in sorted(self._by_event.get(new.stored.event.event_id, ())):
                if key[0] == accepted.room.nid:
                    due.append(self._waiting[key])
        if due:
            for receipt in due:
                self._drop(receipt)
            self._tasks.spawn("receipts that waited", self._markers.receive(due))

    # ----------------------------------------------------------------------------------------------------------

    async def _take(self, receipts: Sequence[Receipt]) -> None:
        # They wait before it is known that they must: the event may come while the database is asked for it.
        for receipt in receipts:
            self._hold(receipt)
        missing = {_key(receipt) for receipt in await self._markers.receive(receipts)}
        for receipt in receipts:
            key = _key(receipt)
            if key not in missing and self._waiting.get(key) is receipt:
                self._drop(receipt)

    def _receipt(self, room_nid: int, user_id: str, about: UserReceipt) -> Receipt | None:
        thread = UNTHREADED if about.data.thread_id is None else about.data.thread_id
        try:
            event_id = parse_event_id(about.event_ids[0])
            if about.data.thread_id is not None and thread != MAIN:
                thread = parse_event_id(thread)
        except InvalidIdentifier:
            return None
        now = self._clock.now_ms()
        ts = now if about.data.ts is None else min(max(about.data.ts, 0), now)
        return Receipt(room_nid, user_id, READ, thread, event_id, ts, 0)

    def _hold(self, receipt: Receipt) -> None:
        key = _key(receipt)
        older = self._waiting.get(key)
        if older is not None:
            self._drop(older)
        self._waiting[key] = receipt
        self._by_event.setdefault(receipt.event_id, set()).add(key)
        if len(self._waiting) > MOST_WAITING:
            self._drop(next(iter(self._waiting.values())))

    def _drop(self, receipt: Receipt) -> None:
        key = _key(receipt)
        del self._waiting[key]
        keys = self._by_event[receipt.event_id]
        keys.discard(key)
        if not keys:
            del self._by_event[receipt.event_id]


def _key(receipt: Receipt) -> _Key:
    return receipt.room_nid, receipt.user_id, receipt.thread

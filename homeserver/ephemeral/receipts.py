"""Receipts for readers: what each room's members have read, as the `m.receipt` events of /sync.

The newest receipts of active rooms are held in memory; each room's have a *floor*, the position up to which memory may
have gaps. An older token is answered from the database. What is rendered for one reader is kept for the next, as
long as it holds nobody's private receipts. Writing them is `homeserver.userdata.read_markers`.

Spec: https://spec.matrix.org/v1.19/client-server-api/#receipts
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import orjson

from homeserver.streams.hub import Hub
from storage import receipts as rows
from storage.database import Database
from storage.ports import Cursor
from storage.receipts import UNTHREADED, Receipt

READ = "m.read"
PRIVATE = "m.read.private"

MAX_HELD = 20_000
"""Receipts in memory, of all rooms."""
MAX_ROOMS = 10_000
"""Rooms that are remembered, were it only to know that they have none."""
MAX_HELD_EACH = 200
"""And of one room."""
MAX_SHOWN = 500
"""In a room with more, a first sync shows the newest, and the reader's own."""
MAX_RENDERED = 8
"""Renderings of one room that are kept at once."""

Key = tuple[str, str, str]
"""User, type, thread."""


class ReceiptListener(Protocol):
    """Told of committed receipts, in order: must not wait and must not raise."""

    def receipts_moved(self, receipts: Sequence[Receipt]) -> None: ...


class _Room(msgspec.Struct, eq=False):
    """A room's receipts since `floor`: the newest of each key, oldest first."""

    floor: int
    held: dict[Key, Receipt] = msgspec.field(default_factory=dict)
    rendered: dict[tuple[int, int], bytes] = msgspec.field(default_factory=dict)
    """By the positions of their oldest and newest receipt, without private ones."""


class ReceiptBoard:
    """See the module's docstring."""

    def __init__(self, hub: Hub, database: Database) -> None:
        self._database = database
        self._hub = hub
        self._floor = hub.position
        self._rooms: OrderedDict[int, _Room] = OrderedDict()
        self._held = 0
        self.listeners: list[ReceiptListener] = []

    async def since(self, room_nid: int, viewer: str, after: int, upto: int) -> bytes | None:
        """The receipts that a member may see, said after one position and up to another; after 0: all.

        One `m.receipt` event as JSON; None: nothing new.
        """
        room = self._rooms.get(room_nid)
        if after >= (self._floor if room is None else room.floor):
            return None if room is None else _from_memory(room, viewer, after, upto)
        return (await self.since_many({room_nid: after}, viewer, upto)).get(room_nid)

    async def since_many(self, wants: Mapping[int, int], viewer: str, upto: int) -> dict[int, bytes]:
        """`since` for many rooms (nid → after), with one look at the database at most.

        Rooms without news are left out.
        """
        found: dict[int, bytes] = {}
        missing: dict[int, list[int]] = {}
        for room_nid, after in wants.items():
            room = self._rooms.get(room_nid)
            if after < (self._floor if room is None else room.floor):
                missing.setdefault(after, []).append(room_nid)
            elif room is not None and (json := _from_memory(room, viewer, after, upto)) is not None:
                found[room_nid] = json
        if missing:
            asked_at = self._hub.position
            read = await self._database.run(_read, missing, viewer, upto)
            for after, room_nids in missing.items():
                for room_nid in room_nids:
                    receipts = read.get(room_nid, [])
                    if after == 0 and upto >= asked_at:
                        self._keep(room_nid, receipts, asked_at)
                    mine = [receipt for receipt in receipts if receipt.type != PRIVATE or receipt.user_id == viewer]
                    if mine:
                        found[room_nid] = render(mine)
        return found

    def publish(self, receipts: Sequence[Receipt]) -> None:
        """Committed receipts become visible: for notices only, in commit order."""
        for receipt in receipts:
            self._hold(receipt)
            if receipt.type != PRIVATE:
                self._hub.mark_room(receipt.room_nid, receipt.position)
            elif (feed := self._hub.feed(receipt.user_id)) is not None and receipt.room_nid in feed.joined:
                feed.mark(receipt.room_nid, receipt.position)
                self._hub.wake(feed)
        for listener in self.listeners:
            listener.receipts_moved(receipts)

    # ----------------------------------------------------------------------------------------------------------

    def _hold(self, receipt: Receipt) -> None:
        room = self._rooms.get(receipt.room_nid)
        if room is None:
            room = self._rooms[receipt.room_nid] = _Room(self._floor)
        else:
            self._rooms.move_to_end(receipt.room_nid)
            room.rendered.clear()
        key = (receipt.user_id, receipt.type, receipt.thread)
        if room.held.pop(key, None) is None:
            self._held += 1
        room.held[key] = receipt
        if len(room.held) > MAX_HELD_EACH:
            room.floor = room.held.pop(next(iter(room.held))).position
            self._held -= 1
        self._make_space()

    def _keep(self, room_nid: int, receipts: list[Receipt], asked_at: int) -> None:
        """All of a room's receipts were read: if they are few, spare the next first sync the reading.

        What is in memory is newer, and complete since its floor; `asked_at` says from where on it had to be.
        """
        room = self._rooms.get(room_nid)
        if len(receipts) > MAX_HELD_EACH // 2 or (self._floor if room is None else room.floor) > asked_at:
            return
        newer = {} if room is None else room.held
        merged = {(one.user_id, one.type, one.thread): one for one in receipts}
        for key, receipt in newer.items():
            merged.pop(key, None)
            merged[key] = receipt
        if len(merged) > MAX_HELD_EACH:
            return
        self._held += len(merged) - len(newer)
        # What was read may be newer than what is held only by a commit that is just being announced.
        in_order = sorted(merged.items(), key=lambda item: item[1].position)
        self._rooms[room_nid] = _Room(0, dict(in_order))
        self._rooms.move_to_end(room_nid)
        self._make_space()

    def _make_space(self) -> None:
        """Drop the rooms that are the longest without news; rooms that are not held have the common floor."""
        while (self._held > MAX_HELD or len(self._rooms) > MAX_ROOMS) and len(self._rooms) > 1:
            _, leaving = self._rooms.popitem(last=False)
            self._held -= len(leaving.held)
            newest = next(reversed(leaving.held.values())).position if leaving.held else 0
            self._floor = max(self._floor, leaving.floor, newest)


def render(receipts: Iterable[Receipt]) -> bytes:
    """Receipts as one `m.receipt` event.

    It can hold one per event, type and user. Where there are two (of different threads), the one that counts for the
    whole room is shown, else the newer: MSC4102.
    """
    content: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for receipt in receipts:
        users = content.setdefault(receipt.event_id, {}).setdefault(receipt.type, {})
        if receipt.thread == UNTHREADED:
            users[receipt.user_id] = {"ts": receipt.ts}
        elif "thread_id" in users.get(receipt.user_id, _THREADED):
            users[receipt.user_id] = {"ts": receipt.ts, "thread_id": receipt.thread}
    return orjson.dumps({"content": content, "type": "m.receipt"})


_THREADED = {"thread_id": ""}


def _from_memory(room: _Room, viewer: str, after: int, upto: int) -> bytes | None:
    chosen: list[Receipt] = []
    has_private = False
    for receipt in reversed(room.held.values()):
        if receipt.position <= after:
            break
        if receipt.position > upto:
            continue
        if receipt.type == PRIVATE:
            if receipt.user_id != viewer:
                continue
            has_private = True
        chosen.append(receipt)
    if not chosen:
        return None
    chosen.reverse()
    if has_private:
        return render(chosen)
    key = (chosen[0].position, chosen[-1].position)
    json = room.rendered.get(key)
    if json is None:
        if len(room.rendered) >= MAX_RENDERED:
            room.rendered.clear()
        json = room.rendered[key] = render(chosen)
    return json


def _read(cursor: Cursor, wants: Mapping[int, Sequence[int]], viewer: str, upto: int) -> dict[int, list[Receipt]]:
    """Receipts by room, oldest first; `wants` has the rooms by the position after which they are wanted."""
    found: dict[int, list[Receipt]] = {}
    for after, room_nids in wants.items():
        read = rows.newest(cursor, room_nids, after, upto, MAX_SHOWN)
        found.update(read)
        full = [room_nid for room_nid, receipts in read.items() if len(receipts) == MAX_SHOWN]
        for receipt in rows.of_user(cursor, full, viewer):
            receipts = read[receipt.room_nid]
            if after < receipt.position < receipts[0].position:
                receipts.insert(0, receipt)
    return found

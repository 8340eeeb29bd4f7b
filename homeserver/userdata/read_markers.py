"""Saying how far one has read: receipts that others see, private ones, and the fully-read marker, in one write.

None of them ever moves back to an earlier event of the room: that is what two devices of one person do to each other
when one of them is slow.

Spec: https://spec.matrix.org/v1.19/client-server-api/#receipts
Spec: https://spec.matrix.org/v1.19/client-server-api/#read-and-unread-markers
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from federation.service import service
from homeserver.clock import Clock
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.ephemeral.threads import MAIN
from homeserver.errors import NotFound
from homeserver.streams.hub import Hub
from homeserver.streams.positions import take_position
from homeserver.userdata.account_data import AccountData
from storage import account_data as account_rows
from storage import receipts as receipt_rows
from storage.account_data import AccountDatum
from storage.database import Database
from storage.ports import Cursor
from storage.receipts import UNTHREADED, Receipt

FULLY_READ = "m.fully_read"


class Mark(msgspec.Struct, frozen=True, gc=False):
    """One thing to be said: `m.read`, `m.read.private` or `m.fully_read` up to an event."""

    type: str
    event_id: str
    thread: str = UNTHREADED
    """For receipts only; that the event is in it must be certain already."""


class MarksMoved:
    """The notice of such a write. The write function fills in what really moved, before the notice is published."""

    def __init__(self, markers: ReadMarkers, user_id: str, position: int) -> None:
        self.position = position
        self._markers = markers
        self._user_id = user_id
        self._taken = position
        self._receipts: list[Receipt] = []
        self._datum: AccountDatum | None = None

    def settle(self, receipts: list[Receipt], datum: AccountDatum | None) -> None:
        """Called where it is written. A position that nothing was written at must not be seen: after a restart it
        would be given to something else.
        """
        self._receipts = receipts
        self._datum = datum
        self.position = self._taken if receipts or datum is not None else 0

    def publish(self, hub: Hub) -> None:
        self._markers.board.publish(self._receipts)
        if self._datum is not None:
            self._markers.account_data.remember(self._user_id, self._datum)
            hub.mark_account(self._user_id, self.position)


@service
class ReadMarkers:
    """Writes receipts and fully-read markers."""

    database: Database
    board: ReceiptBoard
    account_data: AccountData
    clock: Clock

    async def move(self, room_nid: int, user_id: str, marks: Sequence[Mark]) -> None:
        """Set all of `marks`, or none. Durable when it answers.

        That the user is in the room must be certain. Raises NotFound where an event is not in the room's timeline.
        """
        if not marks:
            return
        position = take_position(self.database.counters)
        notice = MarksMoved(self, user_id, position)
        all_known = await self.database.write_and_tell(
            notice, _move, notice, room_nid, user_id, marks, self.clock.now_ms(), position
        )
        if not all_known:
            raise NotFound("There is no such event in this room")

    async def receive(self, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
        """Set receipts of other servers' people; their `position` is given here. Durable when it answers.

        That each of them is in its room must be certain. Those in threads that are not known here are dropped. Gives
        those back whose event is not here.
        """
        position = take_position(self.database.counters)
        notice = MarksMoved(self, "", position)
        return await self.database.write_and_tell(notice, _receive, notice, receipts, position)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has read nothing yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed: nobody can see its private receipts any more, so they go."""
        await self.database.write(receipt_rows.delete_private, user_id)


def _move(
    cursor: Cursor, notice: MarksMoved, room_nid: int, user_id: str, marks: Sequence[Mark], ts: int, position: int
) -> bool:
    """False, and nothing done, if an event is unknown: an exception would have the whole batch done again."""
    notice.settle([], None)
    places: list[int] = []
    for mark in marks:
        place = receipt_rows.place_of(cursor, room_nid, mark.event_id)
        if place is None:
            return False
        places.append(place)
    receipts: list[Receipt] = []
    datum: AccountDatum | None = None
    for mark, place in zip(marks, places, strict=True):
        if mark.type == FULLY_READ:
            datum = _move_fully_read(cursor, room_nid, user_id, mark.event_id, place, position) or datum
        else:
            receipt = Receipt(room_nid, user_id, mark.type, mark.thread, mark.event_id, ts, position, place)
            if receipt_rows.move(cursor, receipt, place):
                receipts.append(receipt)
    notice.settle(receipts, datum)
    return True


def _receive(cursor: Cursor, notice: MarksMoved, receipts: Sequence[Receipt], position: int) -> list[Receipt]:
    notice.settle([], None)
    moved: list[Receipt] = []
    missing: list[Receipt] = []
    for receipt in receipts:
        # A thread is as good as its root: a peer could think of any number of them, each with a row of its own.
        is_whole = receipt.thread in (UNTHREADED, MAIN)
        if not is_whole and receipt_rows.place_of(cursor, receipt.room_nid, receipt.thread) is None:
            continue
        place = receipt_rows.place_of(cursor, receipt.room_nid, receipt.event_id)
        if place is None:
            missing.append(receipt)
            continue
        placed = msgspec.structs.replace(receipt, position=position)
        if receipt_rows.move(cursor, placed, place):
            moved.append(placed)
    notice.settle(moved, None)
    return missing


def _move_fully_read(
    cursor: Cursor, room_nid: int, user_id: str, event_id: str, place: int, position: int
) -> AccountDatum | None:
    before = account_rows.get(cursor, user_id, room_nid, FULLY_READ)
    if before is not None:
        old = receipt_rows.place_of(cursor, room_nid, orjson.loads(before)["event_id"])
        if old is not None and old >= place:
            return None
    datum = AccountDatum(room_nid, FULLY_READ, orjson.dumps({"event_id": event_id}), position)
    account_rows.put(cursor, user_id, datum)
    return datum

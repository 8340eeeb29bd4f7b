"""What is unread: from what everybody in a room is told of, what is different for somebody, and how far they have read.

    judge ──► log of the room, own entries ──► memory, and (a second later) the database
                                                 │
    reads, receipts ──────────────────► place of a person in a room
                                                 │
                            of(): what is in the log behind the place, and the person's own entries there

A message is one entry in its room's log however many people there are: nothing is counted until somebody looks. What
was not written before a crash is judged again at the next start (`homeserver.push.watch`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from attrs import define, field
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from federation.bounded import Bounded
from homeserver.ephemeral.threads import MAIN
from homeserver.push.people import People
from homeserver.tasks import Tasks
from storage import memberships as membership_rows
from storage import push as rows
from storage.database import Database
from storage.ports import Cursor
from storage.push import Batch, LogEntry, OwnEntry, Place
from storage.receipts import UNTHREADED, Receipt

WAIT_S = 1.0
"""How long an entry may wait until it is written."""
BATCH = 500
"""So many do not wait."""
MOST_COUNTED = 5_000
"""Entries of a room (and of somebody in it) that are kept and counted: who has more to read is told of that many."""
MOST_ROOMS = 5_000
MOST_PLACES = 50_000
NEVER = 2**62
"""A position that the stream does not come to."""


class Count(msgspec.Struct, frozen=True, gc=False):
    """Of what is unread."""

    notifications: int
    highlights: int


NONE = Count(0, 0)


class Unread(msgspec.Struct, frozen=True, gc=False):
    """What somebody has not read in a room."""

    total: Count
    main: Count
    """Of what is in no thread."""
    threads: Mapping[str, Count]
    """By the threads' roots: those with something unread."""


NOTHING_UNREAD = Unread(NONE, NONE, {})


class Named(Protocol):
    """A room, as far as counting needs to know it."""

    @property
    def nid(self) -> int: ...

    @property
    def room_id(self) -> str: ...


class _Named(msgspec.Struct, frozen=True, gc=False):
    nid: int
    room_id: str


class _Line(msgspec.Struct, eq=False):
    """One thread of a room's log: positions, oldest first."""

    positions: list[int] = msgspec.field(default_factory=list)
    loud: list[int] = msgspec.field(default_factory=list)


class _Tally(msgspec.Struct, eq=False):
    """A room's log, by thread: what was said last is in the last one."""

    lines: dict[str, _Line] = msgspec.field(default_factory=dict)
    size: int = 0

    def add(self, entry: LogEntry) -> None:
        line = self.lines.pop(entry.thread, None) or _Line()
        self.lines[entry.thread] = line
        if line.positions and entry.position <= line.positions[-1]:
            return  # it came with the database's answer, and by itself
        line.positions.append(entry.position)
        if entry.loud:
            line.loud.append(entry.position)
        self.size += 1

    def trim(self, keep: int) -> int:
        """Forget all but the newest `keep`; up to which position."""
        cut = sorted(position for line in self.lines.values() for position in line.positions)[-keep - 1]
        for thread, line in list(self.lines.items()):
            line.positions = line.positions[bisect_right(line.positions, cut) :]
            line.loud = line.loud[bisect_right(line.loud, cut) :]
            if not line.positions:
                del self.lines[thread]
        self.size = keep
        return cut


@define(eq=False)
class Ledger:
    """See the module's docstring. One per process."""

    database: Database
    timers: IReactorTime
    tasks: Tasks
    people: People
    judged: int = 0
    """Everything up to here is in memory or the database."""
    _unsaved: Batch = field(factory=Batch, init=False)
    _tallies: Bounded[int, _Tally] = field(factory=lambda: Bounded(MOST_ROOMS), init=False)
    _places: Bounded[tuple[str, int], Place] = field(factory=lambda: Bounded(MOST_PLACES), init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)
    """Held while something is written or read: what is in no batch meanwhile is in the database."""
    _during: list[Callable[[], None]] = field(factory=list, init=False)
    """What happened to places while some were read."""
    _is_loading: bool = field(default=False, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    # -- writing side ------------------------------------------------------------------------------------------

    def log(self, entry: LogEntry) -> None:
        """Everybody in the room is told of something."""
        self._unsaved.log.append(entry)
        tally = self._tallies.get(entry.room_nid)
        if tally is not None:
            tally.add(entry)
            if tally.size >= 2 * MOST_COUNTED:
                self._unsaved.trims[entry.room_nid] = tally.trim(MOST_COUNTED)
        self._set_timer()

    def own(self, entry: OwnEntry) -> None:
        """Something is different for somebody."""
        self._unsaved.own.append(entry)
        place = self._places.get((entry.user_id, entry.room_nid))
        if place is not None:
            _add_own(place, entry)
        self._set_timer()

    def read(self, user_id: str, room_nid: int, thread: str, position: int) -> None:
        """Somebody said something: what came before is read."""
        self._unsaved.reads[user_id, room_nid, thread] = position
        self._move(user_id, room_nid, thread, position)
        self._set_timer()

    def receipts_moved(self, receipts: Sequence[Receipt]) -> None:
        """Receipts were committed (`homeserver.ephemeral.receipts.ReceiptListener`)."""
        for receipt in receipts:
            self._move(receipt.user_id, receipt.room_nid, receipt.thread, receipt.place)

    def forget_place(self, user_id: str, room_nid: int) -> None:
        """Somebody's membership changed: how far they are is read again."""
        self._places.forget((user_id, room_nid))
        if self._is_loading:
            self._during.append(lambda: self._places.forget((user_id, room_nid)))

    def note_turns(self) -> None:
        """Somebody's rules changed: write down since when."""
        self._unsaved.turns.update(self.people.turned)
        self.people.turned.clear()
        self._set_timer()

    async def flush(self) -> None:
        """Write what waits."""
        await self._lock.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._unsaved.size:
                await self._write()
        finally:
            self._lock.release()

    # -- reading side ------------------------------------------------------------------------------------------

    async def of(self, user_id: str, rooms: Sequence[Named]) -> dict[int, Unread]:
        """What somebody has not read in rooms that they are in, by the rooms' nids. From memory where it is there."""
        if any(self._is_cold(user_id, room.nid) for room in rooms):
            await self._load(user_id, [room.nid for room in rooms])
        return {room.nid: self._count(user_id, room) for room in rooms}

    async def badge(self, user_id: str) -> int:
        """How many notifications somebody has not read, in all rooms that they are in."""
        joined = await self.database.run(membership_rows.rooms_of, user_id, ["join"])
        unread = await self.of(user_id, [_Named(one.room_nid, one.room_id) for one in joined])
        return sum(one.total.notifications for one in unread.values())

    async def floors(self, user_id: str, room_nids: Sequence[int]) -> dict[int, Place]:
        """How far somebody is in rooms."""
        if any((self._places.get((user_id, nid))) is None for nid in room_nids):
            await self._load(user_id, room_nids)
        return {nid: place for nid in room_nids if (place := self._places.get((user_id, nid))) is not None}

    def _is_cold(self, user_id: str, room_nid: int) -> bool:
        return self._tallies.get(room_nid) is None or self._places.get((user_id, room_nid)) is None

    def _count(self, user_id: str, room: Named) -> Unread:
        tally, place = self._tallies.get(room.nid), self._places.get((user_id, room.nid))
        if tally is None or place is None:
            return NOTHING_UNREAD  # more rooms than memory holds
        threads: dict[str, list[int]] = {}
        if self.people.is_plain(user_id, room.room_id):
            least = max(floor(place, None), self.people.since(user_id, room.room_id))
            in_threads: int | None = None
            for thread in reversed(tally.lines):
                line = tally.lines[thread]
                if line.positions[-1] <= least:
                    break
                begin = max(least, floor(place, thread))
                if thread != MAIN:
                    if in_threads is None:
                        in_threads = self._least_in_threads(user_id, room.room_id)
                    begin = max(begin, in_threads)
                unread = len(line.positions) - bisect_right(line.positions, begin)
                if unread:
                    threads[thread] = [unread, len(line.loud) - bisect_right(line.loud, begin)]
        for entry in place.own:
            if entry.position > floor(place, entry.thread):
                sums = threads.setdefault(entry.thread, [0, 0])
                sums[0] += entry.notify
                sums[1] += entry.highlight
        if not threads:
            return NOTHING_UNREAD
        counts = {thread: Count(max(0, sums[0]), max(0, sums[1])) for thread, sums in threads.items()}
        total = Count(sum(one.notifications for one in counts.values()), sum(one.highlights for one in counts.values()))
        main = counts.pop(MAIN, NONE)
        return Unread(total, main, {thread: one for thread, one in counts.items() if one != NONE})

    def _least_in_threads(self, user_id: str, room_id: str) -> int:
        """From where on usual messages in threads count."""
        if not self.people.is_plain(user_id, room_id, in_thread=True):
            return NEVER
        return self.people.since(user_id, room_id, in_thread=True)

    async def _load(self, user_id: str, room_nids: Sequence[int]) -> None:
        await self._lock.acquire()
        self._is_loading = True
        try:
            logs = [nid for nid in room_nids if self._tallies.get(nid) is None]
            places = [nid for nid in room_nids if self._places.get((user_id, nid)) is None]
            if not logs and not places:
                return
            found_logs, found_places = await self.database.run(_read, user_id, logs, places)
            for nid, entries in found_logs.items():
                tally = _Tally()
                for entry in entries:
                    tally.add(entry)
                self._tallies.put(nid, tally)
            for nid, place in found_places.items():
                self._places.put((user_id, nid), place)
            self._apply_unsaved(user_id)
        finally:
            self._is_loading = False
            during, self._during = self._during, []
            for change in during:
                change()
            self._lock.release()

    def _apply_unsaved(self, user_id: str) -> None:
        for entry in self._unsaved.log:
            if (tally := self._tallies.get(entry.room_nid)) is not None:
                tally.add(entry)
        for own in self._unsaved.own:
            if own.user_id == user_id and (place := self._places.get((user_id, own.room_nid))) is not None:
                _add_own(place, own)
        for (reader, room_nid, thread), position in self._unsaved.reads.items():
            if reader == user_id and (place := self._places.get((user_id, room_nid))) is not None:
                _read_upto(place, thread, position)

    # ----------------------------------------------------------------------------------------------------------

    def _move(self, user_id: str, room_nid: int, thread: str, position: int) -> None:
        place = self._places.get((user_id, room_nid))
        if place is not None:
            _read_upto(place, thread, position)
        elif self._is_loading:
            self._during.append(lambda: self._move(user_id, room_nid, thread, position))

    async def _write(self) -> None:
        batch, self._unsaved = self._unsaved, Batch()
        try:
            await self.database.write(rows.save, batch, self.judged)
        except BaseException:
            newer, self._unsaved = self._unsaved, batch
            batch.log += newer.log
            batch.own += newer.own
            batch.reads.update(newer.reads)
            batch.turns.update(newer.turns)
            batch.trims.update(newer.trims)
            raise

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = self.timers.callLater(WAIT_S, self._begin)
        elif self._unsaved.size == BATCH:
            self._timer.reset(0)

    def _begin(self) -> None:
        self._timer = None
        self.tasks.spawn("push.write", self.flush())


def floor(place: Place, thread: str | None) -> int:
    """Up to where somebody has read a thread; None: all of them."""
    whole = max(place.since, place.reads.get(UNTHREADED, 0))
    return whole if thread is None else max(whole, place.reads.get(thread, 0))


def _read_upto(place: Place, thread: str, position: int) -> None:
    if position > place.reads.get(thread, 0):
        place.reads[thread] = position
        if place.own:
            place.own = [entry for entry in place.own if entry.position > floor(place, entry.thread)]


def _add_own(place: Place, entry: OwnEntry) -> None:
    if not place.own or entry.position > place.own[-1].position:
        place.own.append(entry)


def _read(
    cursor: Cursor, user_id: str, logs: Sequence[int], places: Sequence[int]
) -> tuple[dict[int, list[LogEntry]], dict[int, Place]]:
    return (
        {room_nid: rows.log_of(cursor, room_nid, MOST_COUNTED) for room_nid in logs},
        rows.places_of(cursor, user_id, places, MOST_COUNTED) if places else {},
    )

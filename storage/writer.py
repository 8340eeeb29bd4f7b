"""Group commit: one thread that writes, so that many appends share one transaction, one fsync and one wake-up.

    reactor                                             writer's thread
    append(), write() ──► gathered ─(thread is idle)──► one transaction: runs of appends in bulk, functions in turn
                                                        │ all well: one COMMIT
                                                        └ anything raises: ROLLBACK, then every unit by itself
    notices in order, then answers ◄──── one wake-up per batch ───────────┘

A unit that fails does so alone, but for one thing: an append that comes after a failed one *in the same room* may build
upon it, so that it fails with RoomPoisoned, and so does every later one until `clear_poison`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from federation.threads import Workers
from storage.append import append as append_events
from storage.connection import Connection, Engine
from storage.counters import POSITIONS_AT_A_TIME, write_next_position
from storage.errors import CommitUnknown, ConnectionLost, DatabaseBusy, DatabaseClosed, RoomPoisoned
from storage.ports import Counters, Cursor, EventAppend
from storage.shared import WriterMemory

LARGEST_BATCH = 500
RECONNECT_DELAYS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""How long the writer waits between attempts to get its connection back before a batch fails."""


class Unit(msgspec.Struct, gc=True):
    """One entry of the queue: an append, or a function to call with the cursor."""

    answer: Deferred[Any]
    append: EventAppend | None = None
    function: Callable[[Cursor], Any] | None = None
    notice: object = None


class Outcome(msgspec.Struct):
    """What became of a unit."""

    value: Any = None
    error: Exception | None = None


class Writer:
    """The queue and its thread. All methods are for the reactor's thread; the thread's own start with `_thread_`."""

    def __init__(
        self,
        engine: Engine,
        connection: Connection,
        memory: WriterMemory,
        counters: Counters,
        worker: Workers,
        announce: Callable[[Sequence[object]], None],
    ) -> None:
        """`worker` is one thread. `announce` gets the notices of every committed batch, before anybody's answer."""
        self._engine = engine
        self._connection = connection
        self._memory = memory
        self._counters = counters
        self._reserved = counters.position
        self._worker = worker
        self._announce = announce
        self._gathered: list[Unit] = []
        self._busy = False
        self._holds = 0
        self._poisoned: set[int] = set()
        self._closing: Deferred[None] | None = None

    def append(self, append: EventAppend) -> Deferred[None]:
        answer: Deferred[None] = Deferred()
        if append.room_nid in self._poisoned:
            answer.errback(RoomPoisoned(append.room_nid))
        else:
            notice = append if append.notice is None else append.notice
            self._enqueue(Unit(answer, append=append, notice=notice))
        return answer

    def write(self, function: Callable[[Cursor], Any], notice: object) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._enqueue(Unit(answer, function=function, notice=notice))
        return answer

    def hold(self) -> None:
        """Gather and hand nothing over until `release`, which is to come before anybody waits for anything."""
        self._holds += 1

    def release(self) -> None:
        self._holds -= 1
        if self._gathered and not self._busy and not self._holds:
            self._hand_over()

    def clear_poison(self, room_nid: int) -> None:
        self._poisoned.discard(room_nid)

    @property
    def queue_length(self) -> int:
        """Units that wait for the batch under way to end."""
        return len(self._gathered)

    def close(self) -> Deferred[None]:
        """Write what is queued, then stop."""
        if self._closing is None:
            self._closing = Deferred()
            if not self._busy:
                self._stop()
        return self._closing

    # ------------------------------------------------------------------------------------- in the reactor's thread

    def _enqueue(self, unit: Unit) -> None:
        if self._closing is not None:
            unit.answer.errback(DatabaseClosed("the database is closed"))
            return
        self._gathered.append(unit)
        if not self._busy and not self._holds:
            self._hand_over()

    def _hand_over(self) -> None:
        batch, self._gathered = self._gathered[:LARGEST_BATCH], self._gathered[LARGEST_BATCH:]
        self._busy = True
        self._worker.run(self._thread_main, batch).addCallback(partial(self._finished, batch))

    def _finished(self, batch: list[Unit], outcomes: list[Outcome]) -> None:
        # Poison first: what waits already must not be written, whatever the callbacks below do.
        for unit, outcome in zip(batch, outcomes, strict=True):
            if outcome.error is not None and unit.append is not None:
                self._poisoned.add(unit.append.room_nid)
        lost: list[Unit] = []
        if self._poisoned:
            lost = [unit for unit in self._gathered if self._is_poisoned(unit)]
            if lost:
                self._gathered = [unit for unit in self._gathered if not self._is_poisoned(unit)]
        # Then the thread gets its next work, and the callbacks run beside it.
        self._busy = False
        if self._gathered:
            self._hand_over()
        notices = [
            unit.notice
            for unit, outcome in zip(batch, outcomes, strict=True)
            if outcome.error is None and unit.notice is not None
        ]
        if notices:
            self._announce(notices)
        for unit, outcome in zip(batch, outcomes, strict=True):
            if outcome.error is None:
                unit.answer.callback(outcome.value)
            else:
                unit.answer.errback(outcome.error)
        for unit in lost:
            assert unit.append is not None
            unit.answer.errback(RoomPoisoned(unit.append.room_nid))
        if self._closing is not None and not self._busy and not self._gathered:
            self._stop()

    def _is_poisoned(self, unit: Unit) -> bool:
        return unit.append is not None and unit.append.room_nid in self._poisoned

    def _stop(self) -> None:
        assert self._closing is not None
        self._busy = True
        ended = self._worker.run(self._thread_hang_up)
        ended.addCallback(lambda nothing: self._worker.close())
        ended.chainDeferred(self._closing)

    # ------------------------------------------------------------------------------------- in the writer's thread

    def _thread_main(self, batch: list[Unit]) -> list[Outcome]:
        try:
            return self._thread_write(batch)
        except Exception as error:
            return [Outcome(error=error) for _ in batch]

    def _thread_hang_up(self) -> None:
        self._connection.close()

    def _thread_write(self, batch: list[Unit]) -> list[Outcome]:
        try:
            return self._thread_transaction(batch)
        except (CommitUnknown, ConnectionLost) as error:
            return [Outcome(error=error) for _ in batch]
        except Exception as error:
            if len(batch) == 1:
                return [Outcome(error=self._engine.explain(error))]
        outcomes: list[Outcome] = []
        poisoned: set[int] = set()
        for unit in batch:
            room_nid = None if unit.append is None else unit.append.room_nid
            if room_nid in poisoned:
                assert room_nid is not None
                outcomes.append(Outcome(error=RoomPoisoned(room_nid)))
                continue
            try:
                outcomes += self._thread_transaction([unit])
            except Exception as error:
                outcomes.append(Outcome(error=self._engine.explain(error)))
                if room_nid is not None:
                    poisoned.add(room_nid)
        return outcomes

    def _thread_transaction(self, units: list[Unit]) -> list[Outcome]:
        """All units in one transaction, or raise and leave no trace. After a lost connection it is done once more."""
        try:
            return self._thread_attempt(units)
        except ConnectionLost:
            return self._thread_attempt(units)

    def _thread_attempt(self, units: list[Unit]) -> list[Outcome]:
        if self._connection.broken:
            self._thread_reconnect()
        connection = self._connection
        try:
            cursor = connection.begin()
            # The reactor's thread may take more meanwhile, but not for these units.
            reserved = self._counters.position
            if reserved > self._reserved:
                reserved += POSITIONS_AT_A_TIME
                write_next_position(cursor, reserved)
            outcomes = _apply(cursor, units)
            try:
                connection.commit()
            except CommitUnknown as unknown:
                self._thread_find_out(units, unknown)
        except BaseException:
            connection.rollback()
            self._memory.drop()
            raise
        self._memory.keep()
        self._reserved = max(reserved, self._reserved)
        return outcomes

    def _thread_find_out(self, units: list[Unit], unknown: CommitUnknown) -> None:
        """Return if the transaction of these units did commit, told by one of its new events.

        A new writer's session begins only when the old one has ended (`Engine.open_writer`), so what is not there by
        then never will be. Raises ConnectionLost in that case, and `unknown` where there is no way to tell.
        """
        new = [
            entry.stored.nid
            for unit in units
            if unit.append is not None
            for entry in unit.append.events
            if not entry.was_outlier
        ]
        if not new:
            raise unknown
        try:
            self._thread_reconnect()
            cursor = self._connection.begin()
            try:
                there = cursor.execute("SELECT 1 FROM events WHERE nid = ?", (new[0],)).fetchone()
            finally:
                self._connection.rollback()
        except ConnectionLost:
            raise unknown from None
        if there is None:
            raise ConnectionLost(f"before the commit was done: {unknown}")

    def _thread_reconnect(self) -> None:
        """Open another connection; raises ConnectionLost where that goes on failing."""
        self._connection.close()
        for delay_s in (*RECONNECT_DELAYS_S, None):
            try:
                self._connection = self._engine.open_writer()
                return
            except (ConnectionLost, DatabaseBusy) as error:
                if delay_s is None:
                    raise ConnectionLost(str(error)) from error
                time.sleep(delay_s)


def _apply(cursor: Cursor, units: list[Unit]) -> list[Outcome]:
    """Run the units in order, each run of appends in bulk."""
    outcomes: list[Outcome] = []
    appends: list[EventAppend] = []
    for unit in units:
        if unit.append is not None:
            appends.append(unit.append)
            outcomes.append(Outcome())
            continue
        if appends:
            append_events(cursor, appends)
            appends = []
        assert unit.function is not None
        outcomes.append(Outcome(unit.function(cursor)))
    if appends:
        append_events(cursor, appends)
    return outcomes

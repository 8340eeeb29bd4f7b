"""Everything that goes out to other servers by itself: events, typing, receipts, and what they missed.

    Delivery (which servers?) ── send_pdu ──┐
    new keys, other devices ─── send_news ──┤
    between devices ────────── send_letter ─┤
    typing, receipts, presence ─ send_edu ──┼── Destination ── a turn ── Courier ── PUT /send
    inbound requests ────── peer_is_alive ──┘        │  one request each, and so many in all
                                                     └── Ledger: what is owed, who is left alone

**Nothing is lost** but what passes. The ledger's `sent_upto` says: every event up to here, and all news of people, was
delivered to all whom it concerns, or is written down as owed to them. Each round of book-keeping moves it up to now:
what a server has not taken since the last round is written down as owed, though it may still stand in its queue; what
is younger holds the mark back. After a crash what lies between the mark and the head of the stream, some seconds'
worth, is read again from the stream (`Ledger.recover`). So nothing has to be written while peers answer, and a peer may
be told twice, which is harmless.

Letters can't be made up for by newer ones. They are in the ledger, for each server, before they come here, and leave it
some time after they were taken: a letter may come twice after a crash, under the same `message_id`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from federation.bounded import Bounded
from federation.outbound.backoff import BackOff
from federation.outbound.destination import Budget, Destination, Limits, Means, State
from federation.outbound.parcels import LETTERS, Changes, Courier, Edu, Item, Ledger, Owed, Pause
from federation.room.canonical import canonical_json
from federation.room.event import Event

SAVE_SECONDS = 10.0
"""Between two rounds of book-keeping."""
WAKE_SECONDS = 10.0
"""Within this time after a start, who is owed something is tried."""
REMEMBERED_PEERS = 20_000

_log = Logger()

Spawn = Callable[[str, Coroutine[Deferred[Any], Any, None]], None]


class _Lane(msgspec.Struct, eq=False):
    """Turns of one kind, first come first served."""

    limit: int
    busy: int = 0
    waiting: deque[Destination] = msgspec.field(default_factory=deque)


class Sender:
    """See the module's docstring. One per process; lives in the reactor's thread."""

    def __init__(
        self,
        *,
        server_name: str,
        courier: Courier,
        ledger: Ledger,
        timers: IReactorTime,
        now_ms: Callable[[], int],
        random: Random,
        spawn: Spawn,
        position: Callable[[], int],
        limits: Limits | None = None,
        back_off: BackOff | None = None,
    ) -> None:
        """`position`: up to where the stream is committed and visible, and what came in it was handed over: events of
        `send_pdu` in the same breath in which they become visible.
        """
        limits = limits or Limits()
        self._server_name = server_name
        self._ledger = ledger
        self._timers = timers
        self._now_ms = now_ms
        self._spawn = spawn
        self._position = position
        self._head = position()
        self._budget = Budget(limits)
        self._means = Means(
            courier=courier,
            ledger=ledger,
            timers=timers,
            now_ms=now_ms,
            random=random,
            back_off=back_off or BackOff(),
            limits=limits,
            budget=self._budget,
            next_txn_id=self._next_txn_id,
            ready=self._ready,
        )
        self._destinations: dict[str, Destination] = {}
        self._proven: Bounded[str, bool] = Bounded(REMEMBERED_PEERS)
        self._proven_lane = _Lane(limits.proven_at_once)
        self._unproven_lane = _Lane(limits.unproven_at_once)
        self._is_pumping = False
        # A peer takes a transaction id that it knows for a repetition and drops what is in it, so no two starts may
        # give the same ones, whatever the clock says.
        self._run = f"{now_ms():x}{random.getrandbits(48):012x}"
        self._transactions = 0
        self._has_recovered = False
        self._saved_upto = self._last_round = self._head
        self._saved_pauses: dict[str, Pause] = {}
        self._saving = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._closed = False

    # -- start and end -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Work out who is owed what, and begin. What can't be read now is tried again with the book-keeping."""
        await self._round()

    async def close(self) -> None:
        """Begin nothing more and write down what was not delivered. Before the database closes."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for destination in self._destinations.values():
            destination.close()
        await self._save(is_last=True)

    # -- what is to be sent ------------------------------------------------------------------------------------

    def send_pdu(self, event: Event, destinations: Collection[str], position: int) -> None:
        """Queue a committed event. Positions in a room do not decrease from one call to the next, but where a server is
        told of something older.
        """
        self._queue(Item(event.room_id, position, event.raw), destinations)

    def send_news(self, user_id: str, edus: Sequence[bytes], destinations: Collection[str], position: int) -> None:
        """Queue EDUs that tell of a change to somebody here. Who misses them is told of the newest change in time.

        `edus` are canonical JSON. Positions must not decrease from one call to the next for the same person.
        """
        for edu in edus:
            self._queue(Item(user_id, position, edu, is_edu=True), destinations)

    def send_letter(self, destination: str, edu: bytes, position: int) -> None:
        """Queue an EDU that is in the ledger already, at that position. Positions must not decrease."""
        self._queue(Item(LETTERS, position, edu, is_edu=True), [destination])

    def send_edu(
        self,
        edu_type: str,
        content: Mapping[str, Any],
        destinations: Collection[str],
        key: Hashable | None = None,
        linger_s: float = 0.0,
    ) -> None:
        """Queue something passing: a newer one with the same key takes its place, and it may get lost.

        It may wait `linger_s` for company, unless an event goes that way before.
        """
        edu = Edu(canonical_json({"content": content, "edu_type": edu_type}), key)
        for name in destinations:
            if name != self._server_name:
                self._open(name).add_edu(edu, linger_s)

    def peer_is_alive(self, name: str) -> None:
        """The server just spoke to us. Costs nothing where it was never thought dead."""
        destination = self._destinations.get(name)
        if destination is not None:
            destination.is_alive()

    # -- figures -----------------------------------------------------------------------------------------------

    @property
    def destination_count(self) -> int:
        """Servers of which something is remembered."""
        return len(self._destinations)

    @property
    def queued_pdus(self) -> int:
        """Places that are taken in all queues, by events and what else must arrive."""
        return self._budget.items

    @property
    def queued_bytes(self) -> int:
        return self._budget.bytes

    @property
    def sending(self) -> int:
        """Requests under way."""
        return self._proven_lane.busy + self._unproven_lane.busy

    @property
    def failing_count(self) -> int:
        """Servers that did not take the last parcel."""
        return sum(1 for destination in self._destinations.values() if destination.failures)

    def states(self) -> dict[str, tuple[State, int, int]]:
        """Every server that is remembered: its state, its failures in a row, its events in memory."""
        return {one.name: (one.state, one.failures, one.waiting) for one in self._destinations.values()}

    def is_given_up(self, name: str) -> bool:
        """Whether a server has not answered for so long that nobody should wait for it now."""
        destination = self._destinations.get(name)
        return destination is not None and destination.is_lost and destination.state is State.BACKING_OFF

    # -- turns -------------------------------------------------------------------------------------------------

    def _queue(self, item: Item, destinations: Collection[str]) -> None:
        for name in destinations:
            if name != self._server_name:
                self._open(name).add(item)

    def _open(self, name: str) -> Destination:
        destination = self._destinations.get(name)
        if destination is None:
            destination = Destination(name, self._means, self._proven.get(name) is not None)
            self._destinations[name] = destination
            if self._closed:
                destination.close()
        return destination

    def _ready(self, destination: Destination) -> None:
        lane = self._proven_lane if destination.is_proven else self._unproven_lane
        lane.waiting.append(destination)
        if not self._is_pumping:
            # Not now: the rest of what was committed together may go along.
            self._is_pumping = True
            self._timers.callLater(0, self._pump)

    def _pump(self) -> None:
        self._is_pumping = False
        if not self._has_recovered:
            return  # what is older than the start goes first
        for lane in (self._proven_lane, self._unproven_lane):
            while lane.waiting and lane.busy < lane.limit and not self._closed:
                lane.busy += 1
                self._spawn("send to a peer", self._turn(lane.waiting.popleft(), lane))

    async def _turn(self, destination: Destination, lane: _Lane) -> None:
        try:
            await destination.take_turn()
        finally:
            lane.busy -= 1
            if destination.is_proven:
                self._proven.put(destination.name, True)
            else:
                self._proven.forget(destination.name)
            if lane.waiting and not self._is_pumping and not self._closed:
                self._is_pumping = True
                self._timers.callLater(0, self._pump)

    def _next_txn_id(self) -> str:
        self._transactions += 1
        return f"{self._run}-{self._transactions}"

    # -- book-keeping ------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        recovered = await self._ledger.recover(self._head)
        if self._closed:
            return
        self._has_recovered = True
        self._saved_pauses = dict(recovered.pauses)
        for name in sorted({*recovered.owed, *recovered.pauses}):
            if name != self._server_name:
                self._open(name).recall(name in recovered.owed, recovered.pauses.get(name), WAKE_SECONDS)
        self._pump()

    def _tick_later(self) -> None:
        if not self._closed:
            self._timer = self._timers.callLater(SAVE_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._spawn("book-keeping of what is sent", self._round())

    async def _round(self) -> None:
        try:
            await self._save()
        except Exception:
            _log.failure("what is owed to other servers could not be written down")
        finally:
            self._tick_later()

    async def _save(self, is_last: bool = False) -> None:
        await self._saving.acquire()
        try:
            if not self._has_recovered and not is_last:
                await self._recover()
            if self._has_recovered:
                await self._write(is_last)
        finally:
            self._saving.release()

    async def _write(self, is_last: bool) -> None:
        now = upto = self._position()
        changes = Changes()
        written: list[tuple[Destination, dict[str, int]]] = []
        for destination in list(self._destinations.values()):
            oldest = destination.oldest
            is_old = oldest is not None and (is_last or oldest <= self._last_round)
            if oldest is not None and not is_old:
                upto = min(upto, oldest - 1)
            if is_old:
                destination.is_insured = True
            elif oldest is None and destination.is_insured and not (destination.owes or destination.owed):
                destination.is_insured = False
                changes.cleared.append(destination.name)
            if destination.owed:
                written.append((destination, dict(destination.owed)))
            if destination.letters_upto:
                changes.settled.append(Owed(destination.name, LETTERS, destination.letters_upto))
            changes.owed += destination.debts(with_queue=is_old)
            self._note_pause(destination, changes)
            if destination.is_idle:
                del self._destinations[destination.name]
        self._last_round = now
        if upto > self._saved_upto:
            changes.sent_upto = upto
        if not changes:
            return
        try:
            await self._ledger.save(changes)
        except BaseException:
            self._forget_pauses(changes)
            for name in changes.cleared:
                self._open(name).is_insured = True
            raise
        self._saved_upto = max(upto, self._saved_upto)
        for settled in changes.settled:
            if (known := self._destinations.get(settled.destination)) is not None:
                known.letters_settled(settled.position)
        for destination, owed in written:
            destination.forget_owed(owed)
            destination.ledger_knows()

    def _note_pause(self, destination: Destination, changes: Changes) -> None:
        longest_ms = int(self._means.back_off.longest_s * 1000)
        is_long_ago = destination.retry_at_ms + longest_ms < self._now_ms()
        if destination.state is State.RESTING and is_long_ago:
            destination.failures = 0  # nobody has had anything to tell it for long
        pause = Pause(destination.failures, destination.retry_at_ms) if destination.failures else None
        if pause != self._saved_pauses.get(destination.name):
            changes.pauses[destination.name] = pause
            if pause is None:
                self._saved_pauses.pop(destination.name, None)
            else:
                self._saved_pauses[destination.name] = pause

    def _forget_pauses(self, changes: Changes) -> None:
        """They were not written: the next round finds that they differ from what is."""
        for name in changes.pauses:
            self._saved_pauses[name] = Pause(-1, 0)
            self._open(name)

"""One server that others of ours have something to tell: what waits for it, and when the next attempt is.

                                    something urgent
          ┌───────────────────────────────────────────────────────────┐
          │     something passing               enough gathered       ▼      a turn
       RESTING ───────────────────► GATHERING ─────────────────────► READY ─────────► SENDING
          ▲                             ▲                             ▲ ▲               │ │
          │ nothing left                │ only passing things left    │ │ more          │ │
          ├─────────────────────────────┴─────────────────────────────┼─┴── delivered ──┘ │
          │ nothing to try it with                  time, or a sign   │                   │
          └───────────────────────────── BACKING_OFF ─────────────────┘ ◄──── failed ─────┘
                                                                            (docs/state-machines/destination.dot)

Events wait in a queue, in the order of this server's stream, and with them what else must arrive: news of people's
devices, letters from device to device. A server that does not keep up, or does not answer for a while, loses its queue
and is *lost*: of each room and person is only remembered that something is owed, in the database, so that a dead server
costs next to nothing. When it answers again, it is told of the newest of each (the first of them is how its return is
found out); what came before, it asks for itself. Letters are in the database anyway.

    queue      what must arrive            bounded; not while the server is lost
    owed       topic → position            on its way into the ledger
    ledger     the same, for good          read a parcel at a time, while `owes`

Typing, receipts and the like wait beside that, a newer one in the place of the older, and are lost without harm.

A parcel that failed is sent again as it was, under the same transaction id, until it is delivered or given up. Where
the peer refuses it for what is in it, the next ones are as small as can be, and then grow again. A single event that is
refused is given up: the ones after it cite it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from enum import Enum
from random import Random

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from federation.outbound.backoff import BackOff
from federation.outbound.parcels import (
    LETTERS,
    MAX_BYTES,
    MAX_EDUS,
    MAX_PDUS,
    Changes,
    Courier,
    Edu,
    Item,
    Ledger,
    Owed,
    Parcel,
    Pause,
)
from federation.outbound.transport import PeerError, Refused

_log = Logger()


class State(Enum):
    RESTING = "resting"
    GATHERING = "gathering"
    READY = "ready"
    SENDING = "sending"
    BACKING_OFF = "backing off"


class Limits(msgspec.Struct, frozen=True):
    """What one server, and all together, may cost."""

    queued_pdus: int = 250
    """For one server; with more it is lost."""
    queued_edus: int = 2 * MAX_EDUS
    patience: int = 5
    """After so many failures in a row, about a minute, a server is lost."""
    quiet_s: float = 10.0
    """Between two attempts that signs of life bring about."""
    held_pdus: int = 100_000
    """Places in all queues."""
    held_bytes: int = 64 * 1024 * 1024
    """Of the events in them, each counted once."""
    proven_at_once: int = 96
    """Requests to servers that took the one before."""
    unproven_at_once: int = 48
    """Requests to all others: however many of them hang, they hold up none that answers."""


class Budget(msgspec.Struct):
    """What all queues hold together."""

    limits: Limits
    items: int = 0
    bytes: int = 0

    def take(self, item: Item) -> bool:
        """One more queue holds it. False where that is too much."""
        more = 0 if item.holders else len(item.json)
        if self.items >= self.limits.held_pdus or self.bytes + more > self.limits.held_bytes:
            return False
        self.items += 1
        self.bytes += more
        item.holders += 1
        return True

    def release(self, item: Item) -> None:
        self.items -= 1
        item.holders -= 1
        if not item.holders:
            self.bytes -= len(item.json)


class Means(msgspec.Struct, frozen=True):
    """What all destinations have in common."""

    courier: Courier
    ledger: Ledger
    timers: IReactorTime
    now_ms: Callable[[], int]
    random: Random
    back_off: BackOff
    limits: Limits
    budget: Budget
    next_txn_id: Callable[[], str]
    ready: Callable[[Destination], None]
    """Asks for a turn: `take_turn` is called some time."""


class Destination:
    """See the module's docstring."""

    __slots__ = (
        "_attempted_s",
        "_batch",
        "_closed",
        "_debts_told",
        "_due_s",
        "_edus",
        "_is_prompted",
        "_means",
        "_parcel",
        "_queue",
        "_retry_at_s",
        "_timer",
        "failures",
        "is_insured",
        "is_lost",
        "is_proven",
        "letters_upto",
        "name",
        "owed",
        "owes",
        "retry_at_ms",
        "state",
    )

    def __init__(self, name: str, means: Means, is_proven: bool = False) -> None:
        self.name = name
        self.state = State.RESTING
        self.is_proven = is_proven
        """The last attempt succeeded."""
        self.failures = 0
        """In a row, since the last success or sign of life."""
        self.retry_at_ms = 0
        """Until when nothing is sent, as it is written down."""
        self._retry_at_s = 0.0
        """The same by the timers, which go on evenly when the date is set."""
        self.is_lost = False
        self.owes = False
        """Whether the ledger may know of something."""
        self._debts_told = 0
        """How often the ledger was told of something."""
        self.owed: dict[str, int] = {}
        self.is_insured = False
        """Whether the ledger was told of what is still in the queue. For the sender's book-keeping."""
        self.letters_upto = 0
        """Up to where letters were taken that the ledger still has; 0: there are none."""
        self._means = means
        self._queue: deque[Item] = deque()
        self._edus: dict[Hashable, Edu] = {}
        self._parcel: Parcel | None = None
        """On its way, or to be sent again."""
        self._batch = MAX_PDUS
        self._due_s = 0.0
        """Until when more may be gathered."""
        self._attempted_s: float | None = None
        self._is_prompted = False
        """A sign of life brought the attempts on, and none has succeeded since."""
        self._timer: IDelayedCall | None = None
        self._closed = False

    # -- what comes in -----------------------------------------------------------------------------------------

    def add(self, item: Item) -> None:
        """Positions in a topic do not decrease from one to the next, but where somebody is told of older events."""
        if not self.is_lost and len(self._queue) >= self._means.limits.queued_pdus:
            self._lose()
        if self.is_lost:
            self._owe(item.topic, item.position)
        elif self._means.budget.take(item):
            self._queue.append(item)
        else:
            self._lose()
            self._owe(item.topic, item.position)
        self._wake()

    def add_edu(self, edu: Edu, linger_s: float = 0.0) -> None:
        """It may wait so long for company."""
        if self._closed or (self.is_lost and self._means.timers.seconds() < self._retry_at_s):
            return
        key = edu if edu.key is None else edu.key
        self._edus.pop(key, None)
        self._edus[key] = edu
        if len(self._edus) > self._means.limits.queued_edus:
            del self._edus[next(iter(self._edus))]
        due_s = self._means.timers.seconds() + linger_s
        self._due_s = due_s if len(self._edus) == 1 else min(self._due_s, due_s)
        self._wake()

    def recall(self, owes: bool, pause: Pause | None, within_s: float) -> None:
        """How it stood before a restart. Where something is owed, it is tried soon, or when its pause is over."""
        if pause is not None:
            self.failures = pause.failures
            # Whatever the wall clock did meanwhile.
            left_s = (pause.until_ms - self._means.now_ms()) / 1000
            self._pause(min(left_s, self._means.back_off.longest_s))
        if owes:
            self.ledger_knows()
            self.is_lost = True
            soon_s = within_s * self._means.random.random()
            self._pause(max(self._retry_at_s - self._means.timers.seconds(), soon_s))
            self._wake()

    def is_alive(self) -> None:
        """The server spoke to us: it is worth another attempt, if the last one was not just now.

        An attempt that is made as soon in any case is not put off.
        """
        if not self.failures:
            return
        now_s = self._means.timers.seconds()
        soon_s = now_s if self._attempted_s is None else max(now_s, self._attempted_s + self._means.limits.quiet_s)
        if self._retry_at_s <= soon_s:
            if self.state is State.RESTING:
                self.failures = 0  # no attempt is to come that would do it
            return
        self.failures = 0
        self._is_prompted = True
        self._pause(soon_s - now_s)
        if self.state is State.BACKING_OFF:
            self._stop_timer()
            self.state = State.RESTING
            self._wake()

    def close(self) -> None:
        """Nothing is begun any more. What is under way ends without effect."""
        self._closed = True
        self._stop_timer()

    # -- what the sender's book-keeping asks -------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to remember about it."""
        is_needed = self.failures or self.owes or self.owed or self.is_insured or self.letters_upto
        return self.state is State.RESTING and not is_needed

    @property
    def waiting(self) -> int:
        """How many things are queued or under way."""
        return len(self._queue) + (len(self._parcel.queued) if self._parcel is not None else 0)

    @property
    def oldest(self) -> int | None:
        """The position of the oldest that is queued or under way, letters aside."""
        return min((item.position for item in self._unsettled() if item.topic != LETTERS), default=None)

    def debts(self, with_queue: bool) -> list[Owed]:
        """What the ledger is to know; `with_queue`: of what is queued or under way, too."""
        topics: dict[str, int] = {}
        if with_queue:
            for item in self._unsettled():
                topics[item.topic] = max(item.position, topics.get(item.topic, item.position))
        for topic, position in self.owed.items():
            topics[topic] = max(position, topics.get(topic, position))
        topics.pop(LETTERS, None)  # it knows of them
        return [Owed(self.name, topic, position) for topic, position in topics.items()]

    def forget_owed(self, upto: Mapping[str, int]) -> None:
        """What was owed up to these positions is in the ledger, or owed no more."""
        for topic, position in upto.items():
            if self.owed.get(topic, position + 1) <= position:
                del self.owed[topic]

    def ledger_knows(self) -> None:
        """Something that is owed is in the ledger now."""
        self.owes = True
        self._debts_told += 1

    def letters_settled(self, upto: int) -> None:
        """The ledger has forgotten letters up to there."""
        if self.letters_upto <= upto:
            self.letters_upto = 0

    def _unsettled(self) -> Iterator[Item]:
        if self._parcel is not None:
            yield from self._parcel.queued
        yield from self._queue

    # -- a turn ------------------------------------------------------------------------------------------------

    async def take_turn(self) -> None:
        """Send one parcel. Called once for each `Means.ready`."""
        if self._closed:
            return
        assert self.state is State.READY
        self.state = State.SENDING
        parcel: Parcel | None = None
        try:
            parcel = self._parcel = self._parcel or await self._pack()
            if parcel is not None:
                self._attempted_s = self._means.timers.seconds()
                await self._means.courier.deliver(self.name, parcel)
                if not self._closed:
                    self._succeeded()
                    await self._delivered(parcel)
        except PeerError as error:
            if not self._closed:
                await self._failed(error, parcel)
        except Exception:
            if not self._closed:
                _log.failure("nothing could be sent to {peer}", peer=self.name)
                self._back_off()
        else:
            if not self._closed:
                self.state = State.RESTING
                self._wake()

    async def _pack(self) -> Parcel | None:
        """The next parcel; None where nothing is left."""
        while self.owes or self.owed:
            self.owes = True
            if self.owed:
                written = dict(self.owed)
                if debts := self.debts(with_queue=False):
                    await self._means.ledger.save(Changes(owed=debts))
                self.forget_owed(written)
            if self.letters_upto:
                await self._settle({LETTERS: self.letters_upto})
            # A server that may well be dead is not worth reading rooms for.
            told = self._debts_told
            found = await self._means.ledger.newest(self.name, 1 if self.failures else self._batch)
            if not found:
                self.owes = self._debts_told != told  # it may have been asked just before it was told
                continue
            covers = {one.topic: one.upto for one in found}
            pdus = [pdu for one in found for pdu in one.pdus]
            edus = [edu for one in found for edu in one.edus]
            if pdus or edus:
                things = sum(one.things for one in found)
                return Parcel(self._means.next_txn_id(), self._means.now_ms(), pdus, edus, (), covers, 0, things)
            await self._settle(covers)
        return self._pack_queue()

    def _pack_queue(self) -> Parcel | None:
        queued: list[Item] = []
        counts = {False: 0, True: 0}
        most = {False: self._batch, True: min(2 * self._batch, MAX_EDUS)}
        size = 0
        while self._queue:
            item = self._queue[0]
            size += len(item.json)
            is_full = counts[item.is_edu] == most[item.is_edu] or size > MAX_BYTES or self._batch == 1
            if queued and is_full:
                break
            counts[item.is_edu] += 1
            queued.append(self._queue.popleft())
        passing = [self._edus.pop(key) for key in list(self._edus)[: MAX_EDUS - counts[True]]]
        if not queued and not passing:
            return None
        pdus = [item.json for item in queued if not item.is_edu]
        edus = [item.json for item in queued if item.is_edu] + [edu.json for edu in passing]
        txn_id, now_ms = self._means.next_txn_id(), self._means.now_ms()
        return Parcel(txn_id, now_ms, pdus, edus, queued, {}, len(passing), len(queued))

    def _succeeded(self) -> None:
        self.is_proven = True
        self.is_lost = False
        self.failures = 0
        self._is_prompted = False
        self.retry_at_ms, self._retry_at_s = 0, 0.0
        self._batch = min(2 * self._batch, MAX_PDUS)

    async def _delivered(self, parcel: Parcel) -> None:
        """The peer has it, or will never take it."""
        self._parcel = None
        for item in parcel.queued:
            self._means.budget.release(item)
            if item.topic == LETTERS:
                self.letters_upto = item.position
        if parcel.covers:
            await self._settle(parcel.covers)

    async def _settle(self, covers: Mapping[str, int]) -> None:
        """Nothing of these topics is owed up to these positions: neither by the ledger nor from the queue."""
        settled = [Owed(self.name, topic, position) for topic, position in covers.items()]
        await self._means.ledger.save(Changes(settled=settled))
        self.forget_owed(covers)
        if LETTERS in covers:
            self.letters_settled(covers[LETTERS])
        kept: deque[Item] = deque()
        for item in self._queue:
            if item.position <= covers.get(item.topic, item.position - 1):
                self._means.budget.release(item)
            else:
                kept.append(item)
        self._queue = kept

    # -- failure -----------------------------------------------------------------------------------------------

    async def _failed(self, error: PeerError, parcel: Parcel | None) -> None:
        asked_s = 0.0
        if isinstance(error, Refused):
            asked_s = (error.retry_after_ms or 0) / 1000
            if parcel is not None and (error.status == 413 or (error.status == 400 and error.errcode)):
                await self._refused(error, parcel)
        self._back_off(asked_s)

    async def _refused(self, error: Refused, parcel: Parcel) -> None:
        """The peer objects to what is in the parcel: send it in pieces, or without what is in the smallest."""
        if parcel.is_smallest and error.errcode:
            _log.warn("{peer} will not take something of ours: {why}", peer=self.name, why=error.why)
            try:
                await self._delivered(parcel)
            except Exception:
                _log.failure("what a peer refused is tried again")
            return
        self._parcel = None
        if not parcel.passing:  # else it may be one of those, which are left out from now on
            self._batch = 1
        self._queue.extendleft(reversed(parcel.queued))

    def _back_off(self, asked_s: float = 0.0) -> None:
        if self._closed:
            return
        self.is_proven = False
        self.failures += 1
        if self._is_prompted:
            asked_s = max(asked_s, self._means.limits.quiet_s)
        pause_s = self._means.back_off.pause_s(self.failures, self._means.random, asked_s)
        self._pause(pause_s)
        self.state = State.RESTING
        if self.failures >= self._means.limits.patience:
            self._lose()
        self._wake()

    def _pause(self, pause_s: float) -> None:
        """Send nothing for so long from now."""
        self.retry_at_ms = self._means.now_ms() + int(pause_s * 1000)
        self._retry_at_s = self._means.timers.seconds() + pause_s

    def _lose(self) -> None:
        """Keep no more than what is owed."""
        self.is_lost = True
        given_up = list(self._queue)
        self._queue.clear()
        self._edus.clear()
        if self._parcel is not None and self.state is not State.SENDING:
            given_up += self._parcel.queued
            self._parcel = None
        for item in given_up:
            self._owe(item.topic, item.position)
            self._means.budget.release(item)

    def _owe(self, topic: str, position: int) -> None:
        self.owed[topic] = max(position, self.owed.get(topic, position))

    # -- when the next turn is ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Decide what to wait for, unless that is decided already."""
        if self._closed or self.state not in (State.RESTING, State.GATHERING):
            return
        self._stop_timer()
        urgent = bool(self._queue or self.owes or self.owed or self._parcel is not None)
        pause_s = self._retry_at_s - self._means.timers.seconds()
        linger_s = self._due_s - self._means.timers.seconds()
        if not urgent and not self._edus:
            self.state = State.RESTING
        elif pause_s > 0:
            self.state = State.BACKING_OFF
            self._timer = self._means.timers.callLater(pause_s, self._now)
        elif not urgent and linger_s > 0:
            self.state = State.GATHERING
            self._timer = self._means.timers.callLater(linger_s, self._now)
        else:
            self._now()

    def _now(self) -> None:
        self._timer = None
        self.state = State.READY
        self._means.ready(self)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

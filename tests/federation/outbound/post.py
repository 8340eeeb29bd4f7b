"""A world of rooms and peers in memory, for what goes out: everything that happens is one line in one list.

world = World()
world.say("room", "a.org", "b.org")         an event of ours, told to these servers
world.run(1)
assert world.log == ["a.org: 1", "b.org: 1"]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Coroutine, Sequence
from random import Random
from typing import Any

import attrs
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from federation.outbound.backoff import BackOff
from federation.outbound.destination import Limits
from federation.outbound.parcels import LETTERS, Changes, Newest, Owed, Parcel, Pause, Recovered
from federation.outbound.sender import Sender
from federation.outbound.transport import Refused, Unreachable
from federation.room.event import Event

US = "us.org"
START_MS = 1_700_000_000_000
SAVE_S = 0.01


class Steady(Random):
    """Pauses are three quarters of their full length; else as random as its seed."""

    def random(self) -> float:
        return 0.5


def event(room_id: str, position: int) -> Event:
    """An event whose bytes are its position."""
    return Event(
        event_id=f"${position}",
        room_id=room_id,
        type="m.room.message",
        state_key=None,
        sender=f"@ann:{US}",
        origin_server_ts=0,
        depth=position,
        prev_events=(),
        auth_events=(),
        redacts=None,
        raw=str(position).encode(),
    )


@define(eq=False)
class Courier:
    """Does with parcels what the test says: `outcomes` of a server one after another, and then `manner`."""

    clock: Clock
    log: list[str]
    outcomes: dict[str, list[Exception | Deferred[None] | None]] = field(factory=lambda: defaultdict(list))
    manners: dict[str, str] = field(factory=dict)
    """`up`, `down` (no answer), `deaf` (the parcel comes, the answer does not), `picky` (takes one thing at a time)."""
    travel_s: float = 0.0
    txn_ids: list[str] = field(factory=list)
    under_way: dict[str, int] = field(factory=lambda: defaultdict(int))
    most_at_once: int = 0
    is_cut: bool = False
    """Nothing that is under way arrives."""

    async def deliver(self, destination: str, parcel: Parcel) -> None:
        assert len(parcel.pdus) + len(parcel.edus) > 0 and len(parcel.pdus) <= 50 and len(parcel.edus) <= 100
        self.txn_ids.append(parcel.txn_id)
        self.under_way[destination] += 1
        assert self.under_way[destination] == 1, "one request at a time for each server"
        self.most_at_once = max(self.most_at_once, sum(self.under_way.values()))
        words = [one.decode() for one in (*parcel.pdus, *parcel.edus)]
        try:
            await self._carry(destination, " ".join(words))
        finally:
            self.under_way[destination] -= 1

    async def _carry(self, destination: str, words: str) -> None:
        if self.outcomes[destination]:
            outcome = self.outcomes[destination].pop(0)
            if isinstance(outcome, Exception):
                self.log.append(f"{destination}: {words} ({type(outcome).__name__})")
                raise outcome
            self.log.append(f"{destination}: {words}")
            if outcome is not None:
                await outcome
            return
        if self.travel_s:
            await deferLater(self.clock, self.travel_s, lambda: None)
        manner = self.manners.get(destination, "up")
        if manner == "down" or self.is_cut:
            raise Unreachable(destination, "no answer")
        if manner == "picky" and " " in words:
            raise Refused(destination, 400, "M_TOO_MUCH")
        self.log.append(f"{destination}: {words}")
        if self.travel_s:
            await deferLater(self.clock, self.travel_s, lambda: None)
        if manner == "deaf":
            raise Unreachable(destination, "no answer")


@define(eq=False)
class Disk:
    """What survives."""

    upto: int | None = None
    owed: dict[tuple[str, str], int] = field(factory=dict)
    letters: dict[str, list[int]] = field(factory=lambda: defaultdict(list))
    """By server, in order."""
    pauses: dict[str, Pause] = field(factory=dict)
    saves: int = 0


@define(eq=False)
class Ledger:
    """A ledger that takes its time, as long as its process lives. A topic's newest is its last."""

    world: World
    disk: Disk
    is_dead: bool = False
    fails: bool = False

    async def recover(self, head: int) -> Recovered:
        await self._wait()
        if self.fails:
            raise OSError("the disk fails")
        if self.is_dead:
            await Deferred()
        upto = head if self.disk.upto is None else self.disk.upto
        for position, (topic, servers) in self.world.events.items():
            if upto < position <= head and topic != LETTERS:
                for server in servers:
                    self.disk.owed[server, topic] = position
        self.disk.upto = head
        creditors = {server for server, _ in self.disk.owed} | {
            server for server, all in self.disk.letters.items() if all
        }
        return Recovered(sorted(creditors), dict(self.disk.pauses))

    async def save(self, changes: Changes) -> None:
        await self._wait()
        if self.fails:
            raise OSError("the disk is full")
        if self.is_dead:
            await Deferred()
        self._write(changes)

    def _write(self, changes: Changes) -> None:
        disk = self.disk
        disk.saves += 1
        for key in [key for key in disk.owed if key[0] in changes.cleared]:
            del disk.owed[key]
        for one in changes.settled:
            key = (one.destination, one.topic)
            if one.topic == LETTERS:
                disk.letters[one.destination] = [at for at in disk.letters[one.destination] if at > one.position]
            if disk.owed.get(key, one.position + 1) <= one.position:
                del disk.owed[key]
        for one in changes.owed:
            assert one.topic != LETTERS
            key = (one.destination, one.topic)
            disk.owed[key] = max(one.position, disk.owed.get(key, 0))
        if changes.sent_upto is not None:
            disk.upto = changes.sent_upto
        for server, pause in changes.pauses.items():
            if pause is None:
                disk.pauses.pop(server, None)
            else:
                disk.pauses[server] = pause

    async def newest(self, destination: str, most: int) -> Sequence[Newest]:
        debts = [
            Owed(server, room, at) for (server, room), at in sorted(self.disk.owed.items()) if server == destination
        ]
        letters = self.disk.letters[destination][:most]
        await self._wait()
        found = []
        if letters:
            found.append(Newest(LETTERS, letters[-1], edus=[str(at).encode() for at in letters]))
        for debt in debts[:most]:
            last, upto = debt.position, debt.position
            if debt.topic.startswith("@") or destination in self.world.members[debt.topic]:
                last = max(at for at, (topic, _) in self.world.events.items() if topic == debt.topic)
                upto = self.world.position if debt.topic in self.world.members else last
            edus = [str(last).encode()] if debt.topic.startswith("@") else []
            found.append(Newest(debt.topic, upto, [] if edus else [str(last).encode()], edus))
        return found[:1] if most == 1 else found

    async def _wait(self) -> None:
        await deferLater(self.world.clock, self.world.save_s, lambda: None)


class World:
    """One server's outgoing side on a fake clock, its rooms, and its peers."""

    def __init__(self, limits: Limits | None = None, travel_s: float = 0.0, random: Random | None = None) -> None:
        self.disk_fails = False
        """From the next start on."""
        self.save_s = SAVE_S
        """How long the ledger takes."""
        self.clock = Clock()
        self.log: list[str] = []
        self.date_off_ms = 0
        """By how much the date was set forward or back."""
        self.errors: list[Failure] = []
        self.courier = Courier(self.clock, self.log, travel_s=travel_s)
        self.disk = Disk()
        self.position = 0
        self.events: dict[int, tuple[str, tuple[str, ...]]] = {}
        """Position → room, and who was to hear of it."""
        self.members: dict[str, set[str]] = defaultdict(set)
        self.limits = limits
        self.random = random or Steady(7)
        self.start()

    def start(self) -> None:
        """A process begins."""
        self.ledger = Ledger(self, self.disk, fails=self.disk_fails)
        self.courier = attrs.evolve(self.courier, under_way=defaultdict(int), is_cut=False)
        self.sender = Sender(
            server_name=US,
            courier=self.courier,
            ledger=self.ledger,
            timers=self.clock,
            now_ms=lambda: START_MS + self.date_off_ms + round(self.clock.seconds() * 1000),
            random=self.random,
            spawn=self.spawn,
            position=lambda: self.position,
            limits=self.limits,
            back_off=BackOff(),
        )
        self.spawn("start", self.sender.start())
        self.clock.pump([0, self.save_s, 0])

    def kill(self) -> None:
        """The process is gone without a word."""
        self.ledger.is_dead = self.courier.is_cut = True
        self.spawn("end", self.sender.close(), may_fail=True)

    def stop(self) -> None:
        """The process ends in good order."""
        self.spawn("end", self.sender.close(), may_fail=self.ledger.fails)
        self.run(1)
        self.ledger.is_dead = True

    def spawn(self, name: str, work: Coroutine[Deferred[Any], Any, None], may_fail: bool = False) -> None:
        def note(failure: Failure) -> None:
            if not may_fail:
                self.errors.append(failure)

        Deferred.fromCoroutine(work).addErrback(note)

    def say(self, room_id: str, *servers: str) -> int:
        """An event of ours that these servers are to hear of; its position."""
        self.members[room_id].update(servers)
        return self._commit(room_id, servers)

    def put_out(self, room_id: str, server: str) -> int:
        """An event of ours by which a server is no longer in a room."""
        servers = tuple(sorted(self.members[room_id]))
        self.members[room_id].discard(server)
        return self._commit(room_id, servers)

    def change(self, user_id: str, *servers: str) -> int:
        """Somebody's devices are others, of which these servers are to hear; its position."""
        at = self._take(user_id, servers)
        self.sender.send_news(user_id, [str(at).encode()], servers, at)
        return at

    def write(self, server: str) -> int:
        """A letter to devices at a server; its position."""
        at = self._take(LETTERS, [server])
        self.disk.letters[server].append(at)
        self.sender.send_letter(server, str(at).encode(), at)
        return at

    def _commit(self, room_id: str, servers: Collection[str]) -> int:
        at = self._take(room_id, servers)
        self.sender.send_pdu(event(room_id, at), servers, at)
        return at

    def _take(self, topic: str, servers: Collection[str]) -> int:
        self.position += 1
        self.events[self.position] = (topic, tuple(servers))
        return self.position

    def run(self, seconds: float, step_s: float = 0.5) -> None:
        """Let time pass."""
        self.clock.advance(0)
        while seconds > 0:
            self.clock.advance(min(step_s, seconds))
            self.clock.advance(0)
            seconds -= step_s

    def told(self) -> list[str]:
        """What happened since the last call."""
        log = list(self.log)
        self.log.clear()
        return log

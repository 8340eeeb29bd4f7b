"""A whole server in the benchmark's own process, without sockets, whose people do things many at a time.

As `tests.fixtures_house`, but for its timers: those of `task.Clock` sort all that wait at every call, which would be
most of what a thousand long polls cost. Here a call for now runs at once, and one for later is only remembered.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock as FakeTimers

from homeserver.ephemeral.presence import PresenceBoard
from homeserver.http.route import Requester
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.send import Sender
from homeserver.streams.tokens import parse_stream_token
from homeserver.sync.engine import Sync, SyncAsk
from homeserver.sync.filters import Filter, parse_filter
from tests.bench.meter import Meter
from tests.fixtures_house import LivedInHouse, StillReactor, open_house
from tests.fixtures_rooms import user

AT_ONCE = 8
"""How many requests are under way together where nothing else is said."""
OPEN = parse_filter({})
LAZY = parse_filter({"room": {"state": {"lazy_load_members": True}}})
TEXT = "A message of the length that people write, give or take a few words and a smile."

_NEXT_BATCH = re.compile(rb'"next_batch":"([^"]*)"')


class QuickTimers(FakeTimers):
    """Timers that never come, but for those of this very moment."""

    def __init__(self, reactor: StillReactor) -> None:
        super().__init__()
        self._reactor = reactor
        self._waiting: set[DelayedCall] = set()

    def callLater(self, delay: float, callable: Any, *args: object, **kwargs: object) -> IDelayedCall:
        call = DelayedCall(self.rightNow + delay, callable, args, kwargs, self._waiting.discard, _ignore, self.seconds)
        if delay <= 0:
            self._reactor.callFromThread(self._run, call)
        else:
            self._waiting.add(call)
        return call

    def pass_all(self) -> None:
        """Let all the time pass that anybody waits for."""
        waiting, self._waiting = self._waiting, set()
        for call in sorted(waiting, key=lambda call: float(call.getTime())):
            self._run(call)

    def _run(self, call: DelayedCall) -> None:
        if call.active():
            call.called = 1
            call.func(*call.args, **call.kw)


class QuickReactor(StillReactor):
    def __init__(self) -> None:
        super().__init__()
        self.timers = QuickTimers(self)


@define
class BusyHouse(LivedInHouse):
    """What benchmarks do with a house."""

    servers: tuple[int, ...] = ()
    """PostgreSQL's pid, if it is on PostgreSQL."""
    _serial: int = field(default=0, init=False)

    def meter(self) -> Meter:
        return Meter(self.servers)

    def flow(self, operations: Iterable[Callable[[], Awaitable[object]]], at_once: int = AT_ONCE) -> None:
        """Do all of it, so many at once."""
        rest = iter(operations)

        async def lane() -> None:
            for operation in rest:
                await operation()

        self.reactor.wait(gatherResults([Deferred.fromCoroutine(lane()) for _ in range(at_once)]), 600)

    def message(self, name: str, room_id: str) -> Awaitable[str]:
        """Send a message with a transaction id, as a client's request does."""
        content = {"msgtype": "m.text", "body": TEXT}
        return self.house.part(Sender).message(self.who(name), room_id, "m.room.message", content, f"t{self.next()}")

    def topic(self, name: str, room_id: str) -> Awaitable[str]:
        """Change a piece of state."""
        topic = {"topic": f"{TEXT} {self.next()}"}
        return self.house.part(Sender).state(user(name), room_id, "m.room.topic", "", topic)

    def next(self) -> int:
        self._serial += 1
        return self._serial

    def join_all(self, names: Iterable[str], room_id: str, at_once: int = 200) -> None:
        self.flow((lambda name=name: self.memberships.join(room_id, user(name)) for name in names), at_once)  # type: ignore[misc]

    def room(self, room_id: str) -> LiveRoom:
        return self.wait(self.house.rooms.require(room_id))

    def poll(
        self, who: Requester, since: str | None = None, filter: Filter = OPEN, timeout_ms: int = 0
    ) -> Deferred[bytes]:
        """What `GET /sync` does below HTTP."""
        ask = SyncAsk(filter, None if since is None else parse_stream_token(since), False, timeout_ms, False)
        self.house.part(PresenceBoard).seen(who.user_id, None, who.device_id, timeout_ms)
        return Deferred.fromCoroutine(self.house.part(Sync).sync(who, ask))

    def token(self, name: str) -> str:
        """Where an incremental sync of that user begins now."""
        return next_batch(self.wait(self.poll(self.who(name))))


def next_batch(answer: bytes) -> str:
    found = _NEXT_BATCH.search(answer)
    assert found is not None
    return found[1].decode()


def open_busy_house(directory: Path, database_url: str, servers: tuple[int, ...] = ()) -> BusyHouse:
    """As `open_house`, on timers that cost nothing."""
    directory.mkdir(exist_ok=True)
    opened = open_house(directory, database_url, QuickReactor())
    return BusyHouse(opened.house, opened.reactor, servers)


def _ignore(call: DelayedCall) -> None:
    """Nobody puts a call off."""

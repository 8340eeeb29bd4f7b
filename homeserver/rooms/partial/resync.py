"""Fetches what was left out of rooms, in the background, for as long as it takes.

                 ┌───────────── somebody joined, or the server was started
                 v
    ┌────> waiting for a turn ──> asking SERVER ──whole──> done
    │                              │   ^
    │                              │ nothing came of it: the next one
    │                              v   │
    └──(pause, or one is heard of)── none is left          left by everybody here: the end, whatever is going on

A pause doubles from time to time and is kept in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any

import msgspec
import structlog
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from federation.outbound.backoff import BackOff
from homeserver.clock import Clock
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.partial.completion import Completion, is_current
from homeserver.rooms.receive.gather import Budget
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.registry import Rooms
from storage import partial as rows
from storage.database import Database
from storage.partial import PartialStay

AT_ONCE = 3
"""Rooms for which servers are asked at one time: each may have a very large answer."""
MOST_ASKED = 10
"""Servers in one round."""
MOST_EVENTS = 1_000_000
"""That a room may be said to rest on."""
EARLIEST_S = 10.0
"""After a round that failed: before that nobody's showing up makes it begin again."""

log = structlog.get_logger("homeserver.rooms.partial")

Spawn = Callable[[str, Coroutine[Deferred[Any], Any, None]], None]


class _Pause(msgspec.Struct, eq=False):
    """A room for which nobody is asked for a while."""

    over: Deferred[None]
    servers: frozenset[str]
    began_s: float


@define(eq=False)
class Resync:
    """See the module's docstring. One per process."""

    _server_name: str
    _rooms: Rooms
    _receiver: Receiver
    _completion: Completion
    _database: Database
    _clock: Clock
    _spawn: Spawn
    _random: Random
    _back_off: BackOff = field(factory=lambda: BackOff(first_s=EARLIEST_S, longest_s=3600.0))
    _turns: DeferredSemaphore = field(factory=lambda: DeferredSemaphore(AT_ONCE), init=False)
    _under_way: set[str] = field(factory=set, init=False)
    """Ids of the rooms that are being taken care of."""
    _pauses: dict[str, _Pause] = field(factory=dict, init=False)

    async def start(self) -> None:
        """Go on where the last run of the server ended."""
        for room_id in await self._database.run(rows.rooms_under_way):
            self._begin(room_id)

    def begin(self, room: LiveRoom) -> None:
        """A room was entered: fetch what was left out, if anything was."""
        if room.partial is not None:
            self._begin(room.room_id)

    def heard_of(self, server: str) -> None:
        """A server is alive: whoever waits to ask it again may do so. Cheap, and never waits."""
        if self._pauses:
            now_s = self._clock.timers.seconds()
            for pause in list(self._pauses.values()):
                if server in pause.servers and now_s >= pause.began_s + EARLIEST_S:
                    _end(pause)

    @property
    def asking(self) -> int:
        """Rooms that are being taken care of now, and are not in a pause."""
        return len(self._under_way) - len(self._pauses)

    # ----------------------------------------------------------------------------------------------------------

    def _begin(self, room_id: str) -> None:
        pause = self._pauses.get(room_id)
        if pause is not None:
            _end(pause)  # left and entered again: that is another stay
        if room_id not in self._under_way:
            self._under_way.add(room_id)
            self._spawn("make a room whole", self._make_whole(room_id))

    async def _make_whole(self, room_id: str) -> None:
        try:
            while (room := await self._rooms.get(room_id)) is not None and (stay := room.partial) is not None:
                await self._wait(room, stay)
                await self._turns.acquire()
                try:
                    done = await self._round(room_id, stay)
                finally:
                    self._turns.release()
                if not done:
                    await self._failed(room_id, stay)
        finally:
            self._under_way.discard(room_id)

    async def _round(self, room_id: str, stay: PartialStay) -> bool:
        """Ask one server after the other. True if there is nothing more to do for this stay."""
        room = await self._rooms.require(room_id)
        for server in self._candidates(room, stay):
            room = await self._rooms.require(room_id)
            if not is_current(room, stay):
                return True
            try:
                if await self._ask(server, room, stay):
                    log.info("a room is whole", room=room_id, peer=server)
                    return True
            except CancelledError:
                raise
            except Exception:
                log.exception("a room could not be made whole", room=room_id, peer=server)
        return False

    async def _ask(self, server: str, room: LiveRoom, stay: PartialStay) -> bool:
        receiver = self._receiver
        join = await receiver.known.events.get(stay.join_nid)
        assert join is not None
        told = await receiver.gatherer.state_ids(server, room.room_id, join.event.event_id)
        if told is None:
            return False
        budget = Budget(events=MOST_EVENTS)
        delivered = await receiver.told.fetch(server, room, join.event.event_id, told, budget)
        if delivered is None:
            log.info("not all of a state", peer=server, room=room.room_id)
            return False
        return await receiver.alone(
            room.room_id,
            partial(self._completion.complete, server, room.room_id, stay, join, told, delivered),
        )

    def _candidates(self, room: LiveRoom, stay: PartialStay) -> Sequence[str]:
        """Whom to ask in this round: who let us in, then those with most people, others in each round."""
        others = [server for server in room.servers_by_size() if server not in (self._server_name, stay.via)]
        first = stay.failures * (MOST_ASKED - 1) % max(len(others), 1)
        return [stay.via, *others[first:], *others[:first]][:MOST_ASKED]

    async def _failed(self, room_id: str, stay: PartialStay) -> None:
        failures = stay.failures + 1
        pause_s = self._back_off.pause_s(failures, self._random)
        retry_at_ts = self._clock.now_ms() + int(pause_s * 1000)
        room = await self._rooms.require(room_id)
        if is_current(room, stay):
            room.note_failure(failures, retry_at_ts)
            await self._database.write(rows.note_failure, room.nid, stay.since, failures, retry_at_ts)

    async def _wait(self, room: LiveRoom, stay: PartialStay) -> None:
        """Until the next attempt is due."""
        pause_s = (stay.retry_at_ts - self._clock.now_ms()) / 1000
        if pause_s <= 0:
            return
        pause = _Pause(Deferred(), frozenset(room.servers), self._clock.timers.seconds())
        timer = self._clock.timers.callLater(pause_s, _end, pause)
        self._pauses[room.room_id] = pause
        try:
            await pause.over
        finally:
            del self._pauses[room.room_id]
            if timer.active():
                timer.cancel()


def _end(pause: _Pause) -> None:
    if not pause.over.called:
        pause.over.callback(None)

"""Takes messages away when they are over: at the end that they have of their own (be it one that counts from when they
are read, `homeserver.retention.reading`), or once their room's time is up.

Only this server's copy: each server goes by the same state of the room. State is never taken away, and of a message its
place in the room's graph stays. Time is what the message claims to be of.

MSC1763: https://github.com/matrix-org/matrix-spec-proposals/pull/1763
MSC2228: https://github.com/matrix-org/matrix-spec-proposals/pull/2228
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import structlog
from attrs import Factory, define, field
from twisted.internet.interfaces import IDelayedCall

from config import Retention
from federation.room.retention import RETENTION_TYPES, ends_at, lifetime_ms
from homeserver.clock import Clock
from homeserver.retention.reading import ReadTimers
from homeserver.rooms.accept import Accepted
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage import expiry, retention
from storage.database import Database
from storage.expiry import BEGINNING, Place

PAGE = 200
LAST_MS = 2**63 - 1
LONGEST_NAP_S = 24 * 3600.0
"""A timer that is set for longer than that is set anew in between."""
RETRY_S = 30.0

log = structlog.get_logger("homeserver.retention")


@define(eq=False)
class Expiry:
    """See the module's docstring. One per process; an observer of the door."""

    database: Database
    rooms: Rooms
    events: EventCache
    hub: Hub
    clock: Clock
    tasks: Tasks
    settings: Retention
    timers: ReadTimers = field(
        default=Factory(
            lambda self: ReadTimers(self.database, self.rooms, self.clock, self.tasks, self._wind), takes_self=True
        ),
        init=False,
    )
    _timer: IDelayedCall | None = field(default=None, init=False)
    _next: int | None = field(default=None, init=False)
    """When the next message ends by its own word."""
    _is_sweeping: bool = field(default=False, init=False)

    def policy(self) -> Mapping[str, Any]:
        """What this server goes by, for clients (MSC1763)."""
        longest, shortest = self.settings.longest_ms, self.settings.shortest_ms
        limits: dict[str, int] = {"min": shortest}
        if longest is not None:
            limits["max"] = longest
        default = self.settings.default_ms
        return {
            "policies": {} if default is None else {"*": {"max_lifetime": default}},
            "limits": {"max_lifetime": limits},
        }

    # -- messages with an end of their own -----------------------------------------------------------------------

    async def start(self) -> None:
        """Take away what was over while the server was not running, and wait for what comes next."""
        if self.settings.enabled:
            await self._end()
            await self.timers.start()

    def accepted(self, accepted: Accepted) -> None:
        """Something was committed."""
        if not self.settings.enabled:
            return
        for new in accepted.events:
            if new.stored.position and (at := ends_at(new.stored.event)) is not None:
                self._wind(at)
        self.timers.accepted(accepted)

    def close(self) -> None:
        """Nothing is taken away any more."""
        self.timers.close()
        self._unwind()

    def _unwind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self, at: int | None, at_least_s: float = 0.0) -> None:
        if at is None or (self._timer is not None and self._next is not None and self._next <= at):
            return
        self._unwind()
        self._next = at
        delay = min(LONGEST_NAP_S, max(at_least_s, (at - self.clock.now_ms()) / 1000))
        self._timer = self.clock.timers.callLater(delay, self._strike)

    def _strike(self) -> None:
        self._timer = None
        self.tasks.spawn("retention.end", self._end())

    async def _end(self) -> None:
        pause = 0.0
        try:
            while page := await self.database.run(retention.ended, self.clock.now_ms(), PAGE):
                by_room: dict[int, list[int]] = defaultdict(list)
                for nid, room_nid in page:
                    by_room[room_nid].append(nid)
                for room_nid, nids in by_room.items():
                    await self._expire(room_nid, nids)
        except Exception as error:
            log.warning("messages that are over could not be taken away yet", why=repr(error))
            pause = RETRY_S
        self._wind(await self.database.run(retention.next_end), pause)

    # -- rooms whose messages live for a while ---------------------------------------------------------------------

    async def sweep(self) -> None:
        """Take away what has lived for as long as it may. To be called now and then."""
        if not self.settings.enabled or self._is_sweeping:
            return
        self._is_sweeping = True
        try:
            await self.timers.start()  # of a room whose members were yet to be fetched, they may be here now
            saying = await self.database.run(retention.rooms_that_say)
            for nid in saying:
                await self._sweep_room(nid, await self._lifetime(nid))
            if self.settings.default_ms is not None:
                await self._sweep_others(frozenset(saying), self.settings.default_ms)
        finally:
            self._is_sweeping = False

    async def _sweep_others(self, saying: Collection[int], lifetime: int) -> None:
        after = 0
        while page := await self.database.run(expiry.all_rooms, after, PAGE):
            after = page[-1]
            for nid in page:
                if nid not in saying:
                    await self._sweep_room(nid, lifetime)

    async def _lifetime(self, room_nid: int) -> int | None:
        """For how long messages live in a room whose state may say so."""
        room = (await self.rooms.get_many([room_nid])).get(room_nid)
        wish = None if room is None else await self._wish(room)
        if wish is None:
            return self.settings.default_ms
        wish = max(wish, self.settings.shortest_ms)
        return wish if self.settings.longest_ms is None else min(wish, self.settings.longest_ms)

    async def _wish(self, room: LiveRoom) -> int | None:
        for event_type in RETENTION_TYPES:
            if (ref := room.visible.state.get((event_type, ""))) is not None:
                stored = await self.events.get(ref.nid)
                return None if stored is None else lifetime_ms(stored.event.content)
        return None

    async def _sweep_room(self, room_nid: int, lifetime: int | None) -> None:
        if lifetime is None:
            return
        await self._take_away(room_nid, self.clock.now_ms() - lifetime)

    async def empty(self, room_nid: int) -> None:
        """Take away all messages of a room, whatever its state and the settings say. Answers when they are gone."""
        await self._take_away(room_nid, LAST_MS)

    async def _take_away(self, room_nid: int, before: int) -> None:
        after: Place | None = BEGINNING
        while after is not None:
            nids, after = await self.database.run(expiry.messages_before, room_nid, before, after, PAGE)
            if nids:
                await self._expire(room_nid, nids)

    async def _expire(self, room_nid: int, nids: Collection[int]) -> None:
        gone = await self.database.write(expiry.expire, room_nid, nids)
        self.events.forget(gone)
        if (room := self.rooms.peek_nid(room_nid)) is not None:
            room.forget_window(self.hub.position)

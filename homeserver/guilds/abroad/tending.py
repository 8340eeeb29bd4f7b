"""This server's members of guilds that live elsewhere: they are brought into the channels that they may view.

    the guild's state changed ── gathered ──► who may view what now, and is not in it ──► joins, by the steward's server
    somebody here came in     ──┘                    ▲                                      │
                                                     └────────── later ◄── could not be ────┘

Whoever left a channel by their own hand stays out of it, until they come into the guild anew. A mark in the database
stands from when there is something to do until it is done, so that a restart goes on with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from attrs import define, field
from twisted.internet.defer import DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall

from federation.bounded import Bounded
from federation.room.identifiers import server_of
from homeserver.errors import MatrixError
from homeserver.guilds.api.fields import MOST_CHANNELS
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import OWN_TYPES, Channel, Guild
from homeserver.guilds.steward import guild_id_of, is_guild_room, profile_of
from homeserver.guilds.viewers import Viewers, has_opened, is_lazy
from homeserver.rooms.accept import Accepted, Door
from homeserver.rooms.compose import Template
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import MEMBER, Elsewhere
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from homeserver.turns import OneAtATime
from storage import guilds as rows
from storage.database import Database

GATHER_S: Final = 0.2
AT_ONCE: Final = 6
"""Joins that are under way for one guild."""
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 300.0
MOST_HELD: Final = 1_000
FINAL: Final = frozenset([400, 403, 404])
"""Refusals that another attempt would not change: the next change of the guild is one."""

log = structlog.get_logger("homeserver.guilds")


class _Due(msgspec.Struct):
    """What is to be looked at in a guild."""

    arrived: set[str] = msgspec.field(default_factory=set)
    """Who came into the guild."""
    touched: set[str] = msgspec.field(default_factory=set)
    """Whose roles are others."""
    failures: int = 0


@define(eq=False)
class Tending:
    """An observer of the door. See the module's docstring."""

    steward: str
    door: Door
    rooms: Rooms
    book: GuildBook
    elsewhere: Elsewhere
    database: Database
    tasks: Tasks
    _seen: Bounded[str, Guild] = field(factory=lambda: Bounded(MOST_HELD))
    """Guilds as they were when everybody was where they should be."""
    _due: dict[str, _Due] = field(factory=dict)
    _waking: dict[str, IDelayedCall] = field(factory=dict)
    _turns: OneAtATime = field(factory=OneAtATime)

    async def start(self) -> None:
        """Take up what was not done before the restart."""
        for guild_id in await self.database.run(rows.untended):
            self._wake(guild_id, GATHER_S)

    def accepted(self, accepted: Accepted) -> None:
        room = accepted.room
        guild_id = None if room.create.sender == self.steward else guild_id_of(room)
        if guild_id is None:
            return
        server_name = self.door.identity.server_name
        if not is_guild_room(room):
            # Whoever was put out may view the channel again by the time the guild is looked at.
            put_out = [user_id for user_id in accepted.departed() if user_id.endswith(f":{server_name}")]
            if put_out:
                self._due.setdefault(guild_id, _Due()).touched.update(put_out)
                self._wake(guild_id, GATHER_S)
            return
        if not room.local_joined:
            return
        arrived, touched, is_other = [], [], False
        for change in accepted.all_changes():
            event_type, key = change.key
            if event_type in OWN_TYPES:
                is_other = True
                if event_type == "chat.guildhall.member":
                    touched.append(key[1:])
            elif event_type == MEMBER and key.endswith(f":{server_name}"):
                was_in = change.old is not None and change.old.membership == "join"
                if not was_in and change.new is not None and change.new.membership == "join":
                    arrived.append(key)
        if arrived or is_other:
            due = self._due.setdefault(room.room_id, _Due())
            due.arrived.update(arrived)
            due.touched.update(touched)
            self._wake(room.room_id, GATHER_S)

    def _wake(self, guild_id: str, delay_s: float) -> None:
        timers = self.door.clock.timers
        waking = self._waking.get(guild_id)
        if waking is None:
            self._waking[guild_id] = timers.callLater(delay_s, self._woken, guild_id)
        elif waking.getTime() > timers.seconds() + delay_s:
            waking.reset(delay_s)  # what is new does not wait for another attempt at what is old

    def _woken(self, guild_id: str) -> None:
        del self._waking[guild_id]
        self.tasks.spawn("guild.tend", self._turns.alone(guild_id, partial(self._tend, guild_id)))

    async def _tend(self, guild_id: str) -> None:
        due = self._due.pop(guild_id, None) or _Due()
        await self.database.write(rows.set_untended, guild_id)
        try:
            is_done = await self._bring_in(guild_id, due)
        except MatrixError as error:
            log.info("a guild is looked after later", guild=guild_id, why=str(error))
            is_done = False
        if is_done:
            if guild_id not in self._due:
                await self.database.write(rows.set_tended, guild_id)
            return
        self._seen.forget(guild_id)  # so that everybody is looked at
        again = self._due.setdefault(guild_id, _Due())
        again.arrived |= due.arrived
        again.failures = max(again.failures, due.failures + 1)
        self._wake(guild_id, min(FIRST_PAUSE_S * 2 ** (again.failures - 1), LONGEST_PAUSE_S))

    async def _bring_in(self, guild_id: str, due: _Due) -> bool:
        """False where something is left to be tried again."""
        room = await self.rooms.get(guild_id)
        guild = None if room is None else await self.book.find(room)
        if room is None or guild is None or not room.local_joined:
            return True
        if guild.settings.lazy is None:
            room = await self.rooms.whole(room)  # or it is not known how many there are
        if is_lazy(guild, room):
            self._seen.put(guild_id, guild)
            return True
        wanted = await self._wanted(room, guild, due)
        slots = DeferredSemaphore(AT_ONCE)
        joins = [slots.run(self._join, room, channel_id, user_id) for channel_id, user_id in wanted]
        outcomes = await DeferredList(joins, consumeErrors=True)
        if not all(outcome is True for _, outcome in outcomes):
            return False
        self._seen.put(guild_id, guild)
        return True

    async def _wanted(self, room: LiveRoom, guild: Guild, due: _Due) -> list[tuple[str, str]]:
        """Channels and who is to come into them: everybody's first channel before anybody's second."""
        before = self._seen.get(guild.room_id)
        named = {*due.arrived, *due.touched}
        found: list[tuple[str, str]] = []
        for channel in guild.channels_in_order()[:MOST_CHANNELS]:
            people: Iterable[str] = room.local_joined
            if before is not None and not has_opened(before, guild, channel):
                people = named
            viewers = Viewers(guild, channel)
            able = [user_id for user_id in people if user_id in room.local_joined and viewers.holds(user_id)]
            found += [(channel.room_id, user_id) for user_id in await self._outside(room, channel, able, due.arrived)]
        return found

    async def _outside(
        self, guild_room: LiveRoom, channel: Channel, people: Collection[str], arrived: Collection[str]
    ) -> list[str]:
        """Those who are not in the channel and have not left it themselves."""
        room, maker = await self.rooms.get(channel.room_id), guild_room.create.sender
        if room is None:
            return sorted(people)
        if room.create.sender != maker:
            return []
        refs = {user_id: room.visible.state.get((MEMBER, user_id)) for user_id in people}
        left = {
            user_id: ref.nid
            for user_id, ref in refs.items()
            if ref is not None and ref.membership == "leave" and user_id not in arrived
        }
        events = await self.door.events.get_many(list(left.values()))
        senders = {user_id: events[nid].event.sender for user_id, nid in left.items() if nid in events}
        by_own_hand = {user_id for user_id, sender in senders.items() if sender == user_id}
        return sorted(
            user_id
            for user_id, ref in refs.items()
            if user_id not in by_own_hand and (ref is None or ref.membership not in ("join", "ban"))
        )

    async def _join(self, room: LiveRoom, channel_id: str, user_id: str) -> bool:
        """False where it may be tried again."""
        content = await self._content(room, user_id)
        if content is None:
            return True
        try:
            await self.elsewhere.enter(channel_id, user_id, content, [str(server_of(room.create.sender))])
        except MatrixError as error:
            log.info("not let into a channel", room=channel_id, user=user_id, why=str(error))
            return error.status in FINAL
        channel = await self.rooms.get(channel_id)
        if channel is not None and channel.create.sender != room.create.sender:
            # Whoever runs a guild can write any room into it; nobody comes into a stranger's by that.
            log.warning("a guild names a room that is not its own", guild=room.room_id, room=channel_id)
            await self.door.send(channel_id, [Template(MEMBER, user_id, {"membership": "leave"}, user_id)])
        return True

    async def _content(self, room: LiveRoom, user_id: str) -> Mapping[str, Any] | None:
        """A join with the profile that somebody shows in the guild; None where they left it."""
        ref = room.visible.state.get((MEMBER, user_id))
        stored = None if ref is None or ref.membership != "join" else await self.door.events.get(ref.nid)
        return None if stored is None else profile_of(stored.event.content)

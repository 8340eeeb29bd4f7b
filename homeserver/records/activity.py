"""Counts how much rooms are used: messages, who says something, joins and leaves, by day (UTC).

    Accepted ── memory ──(every minute, or somebody asks)──► counters, with the position up to which all is counted

What was counted in memory alone when the server stopped is counted again at the next start, from the events themselves.
Rooms are counted from the day on which this begins: nobody scans what was before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import structlog
from attrs import define, field
from twisted.internet.defer import DeferredLock

from federation.room.relations import REPLACE, relation_of
from homeserver.clock import Clock
from homeserver.guilds.steward import guild_id_of, is_steward
from homeserver.rooms.accept import Accepted
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage import activity as rows
from storage.activity import KEPT_DAYS, NOTHING, Key, Tally
from storage.database import Database
from storage.events import load_events, timeline
from storage.ports import Cursor, StoredEvent
from storage.search import rooms_with_news

DAY_MS: Final = 24 * 3_600_000
MESSAGES: Final = frozenset(["m.room.message", "m.room.encrypted", "m.sticker"])
SPEAKING: Final = MESSAGES | {"m.reaction"}
MEMBER: Final = "m.room.member"
PIECE = 200

log = structlog.get_logger("homeserver.activity")


@define(eq=False)
class Activity:
    """An observer of the door. One per process."""

    database: Database
    rooms: Rooms
    hub: Hub
    clock: Clock
    _begin: int = field(init=False)
    """What is behind this position is observed; what is before it was there when the server started."""
    _seen: int = field(default=0, init=False)
    _is_behind: bool = field(default=True, init=False)
    _tallies: dict[Key, Tally] = field(factory=dict, init=False)
    _people: set[tuple[int, int, str]] = field(factory=set, init=False)
    """Day, room and user of who said something."""
    _known: set[tuple[int, int, str]] = field(factory=set, init=False)
    """Those who are in the database already, of these days."""
    _guilds: dict[int, str] = field(factory=dict, init=False)
    """Rooms in `_people` that belong to a guild."""
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    def __attrs_post_init__(self) -> None:
        self._begin = self.hub.position

    async def start(self) -> None:
        """Count what a crash left uncounted."""
        after = await self.database.run(rows.upto)
        if after is None:  # counting begins today
            await self.database.write(rows.write, {}, (), self._begin)
        elif after < self._begin:
            for room_nid in await self.database.run(rooms_with_news, after):
                found = await self.rooms.get_many([room_nid])
                if (room := found.get(room_nid)) is not None:
                    await self._count_room(room, after)
        self._is_behind = False
        self._seen = max(self._seen, self._begin)
        await self.write()

    def accepted(self, accepted: Accepted) -> None:
        """Something was committed."""
        self._seen = max(self._seen, accepted.position)
        for new in accepted.events:
            stored = new.stored
            if stored.position <= self._begin or stored.rejected or stored.soft_failed:
                continue
            event = stored.event
            was: str | None = None
            if event.type == MEMBER:
                own = (MEMBER, event.state_key)
                change = next((change for change in new.changes if change.key == own), None)
                if change is None:
                    continue
                was = None if change.old is None else change.old.membership
            self._count(accepted.room, stored, was)

    async def write(self) -> None:
        """Have everything in the counters that was committed before this was called. To be called every minute."""
        await self._lock.acquire()
        try:
            tallies, people, guilds, upto = self._tallies, self._people, self._guilds, self._seen
            if self._is_behind or not (tallies or people):
                return
            self._tallies, self._people, self._guilds = {}, set(), {}
            try:
                # Whoever speaks in a channel is active in its guild.
                homes = {nid: await self.rooms.get(guild_id) for nid, guild_id in guilds.items()}
                people |= {
                    (day, home.nid, user_id)
                    for day, nid, user_id in people
                    if (home := homes.get(nid)) is not None and home.nid != nid
                }
                fresh = people - self._known
                await self.database.write(rows.write, tallies, sorted(fresh), upto)
            except BaseException:
                self._take_back(tallies, people, guilds)
                raise
            oldest = self._today() - KEPT_DAYS
            self._known = {one for one in self._known | fresh if one[0] > oldest}
        finally:
            self._lock.release()

    async def forget_old(self) -> None:
        """To be called once a day."""
        await self.database.write(rows.forget_people, self._today() - KEPT_DAYS + 1)

    async def read(self, room_nids: Collection[int], first_day: int, last_day: int) -> dict[Key, Tally]:
        """What happened in some rooms, up to now."""
        await self.write()
        return await self.database.run(rows.read, room_nids, first_day, last_day)

    def _today(self) -> int:
        return self.clock.now_ms() // DAY_MS

    def _count(self, room: LiveRoom, stored: StoredEvent, was: str | None) -> None:
        """One event. `was`: the membership that a member event took the place of."""
        event = stored.event
        key = (room.nid, stored.received_ts // DAY_MS)
        tally = self._tallies.get(key, NOTHING)
        if event.type == MEMBER:
            if event.state_key is None or is_steward(event.state_key):
                return
            is_in = event.content.get("membership") == "join"
            if is_in == (was == "join"):
                return
            self._tallies[key] = tally.plus(joins=1) if is_in else tally.plus(leaves=1)
        elif event.type in SPEAKING and event.state_key is None:
            relation = relation_of(event)
            is_edit = relation is not None and relation.rel_type == REPLACE
            if event.type in MESSAGES and not is_edit:
                self._tallies[key] = tally.plus(messages=1)
            self._people.add((key[1], room.nid, event.sender))
            guild_id = guild_id_of(room)
            if guild_id is not None:
                self._guilds[room.nid] = guild_id

    async def _count_room(self, room: LiveRoom, after: int) -> None:
        while after < self._begin:
            piece, replaced = await self.database.run(_read_piece, room.nid, after, self._begin)
            for stored in piece:
                old = replaced.get(stored.replaces)
                membership = None if old is None else old.event.content.get("membership")
                self._count(room, stored, membership if isinstance(membership, str) else None)
            if len(piece) < PIECE:
                return
            after = piece[-1].position

    def _take_back(self, tallies: dict[Key, Tally], people: set[tuple[int, int, str]], guilds: dict[int, str]) -> None:
        """They could not be written: they are counted with what came meanwhile."""
        for key, tally in tallies.items():
            now = self._tallies.get(key, NOTHING)
            self._tallies[key] = now.plus(messages=tally.messages, joins=tally.joins, leaves=tally.leaves)
        self._people |= people
        self._guilds.update(guilds)


def _read_piece(
    cursor: Cursor, room_nid: int, after: int, upto: int
) -> tuple[Sequence[StoredEvent], dict[int, StoredEvent]]:
    """In a database thread."""
    piece = timeline(cursor, room_nid, after=after, upto=upto, limit=PIECE)
    nids = [stored.replaces for stored in piece if stored.event.type == MEMBER and stored.replaces]
    return piece, load_events(cursor, nids) if nids else {}

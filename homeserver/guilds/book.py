"""Guilds as they stand, kept beside their rooms: read once, then moved on by what changes.

A guild's state is looked at for every message in its channels, so it is in memory in the form that is asked for. It is
never more than a reading of the room's state: dropped at any time, it is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from attrs import field

from federation.bounded import Bounded
from federation.room.event import StateKey
from federation.service import service
from homeserver.errors import NotFound
from homeserver.guilds.model import OWN_TYPES, Guild, guild_of
from homeserver.guilds.steward import is_guild_room
from homeserver.rooms.compose import Draft, NeedEvents
from homeserver.rooms.events import EventCache
from homeserver.rooms.lineage import Lineage
from homeserver.rooms.live import LiveRoom, State
from homeserver.rooms.registry import Rooms
from storage.ports import StoredEvent

MOST_HELD = 1_000

Read = Callable[[int], StoredEvent | None]
"""An event by nid, from memory."""


class _Seen(msgspec.Struct, frozen=True, gc=False):
    """A guild as it was at a snapshot of its room."""

    snapshot: int
    guild: Guild


@service
class GuildBook:
    """Hands out guilds."""

    rooms: Rooms
    events: EventCache
    lineage: Lineage
    _seen: Bounded[int, _Seen] = field(factory=lambda: Bounded(MOST_HELD))

    async def require(self, guild_id: str) -> Guild:
        """The guild as readers see it. Raises NotFound for what is no guild that this server is in."""
        room = await self.rooms.get(guild_id)
        guild = None if room is None else await self.find(room)
        if guild is None:
            raise NotFound("There is no such guild")
        return guild

    async def find(self, room: LiveRoom) -> Guild | None:
        """The guild that a room is, as readers see it; None where it is none."""
        if not is_guild_room(room):
            return None
        read: dict[int, StoredEvent] = {}
        while True:
            visible = room.visible
            try:
                return self._at(
                    room, visible.head.snapshot, visible.state, lambda nid: read.get(nid) or self.events.peek(nid)
                )
            except NeedEvents as need:
                read.update(await self.events.get_many(need.nids))

    def peek(self, room: LiveRoom) -> Guild | None:
        """As `find`, without waiting: None too where it would have to be read."""
        seen = self._seen.get(room.nid)
        return seen.guild if seen is not None and seen.snapshot == room.visible.head.snapshot else None

    def forget(self, room: LiveRoom) -> None:
        """Its state changed without an event to say so: it is read again."""
        self._seen.forget(room.nid)

    def standing(self, draft: Draft) -> Guild:
        """The guild as the next event will find it. Raises NeedEvents."""
        state = draft.standing.state
        return self._at(draft.room, draft.standing.head.snapshot, state, draft.peek)

    def _at(self, room: LiveRoom, snapshot: int, state: State, read: Read) -> Guild:
        seen = self._seen.get(room.nid)
        if seen is not None and seen.snapshot == snapshot:
            return seen.guild
        keys = None if seen is None else self.lineage.differing(seen.snapshot, snapshot)
        if seen is None or keys is None:
            own = ((key, state[key].nid) for key in state if key[0] in OWN_TYPES)
            contents = _contents(room, own, read)
            guild = guild_of(room.room_id, ((key[0], key[1], content) for key, content in contents.items()))
        else:
            changed = [key for key in keys if key[0] in OWN_TYPES]
            contents = _contents(room, ((key, state[key].nid) for key in changed if key in state), read)
            guild = seen.guild
            for key in changed:
                guild = guild.changed(key[0], key[1], contents.get(key, {}))
        self._seen.put(room.nid, _Seen(snapshot, guild))
        return guild


def _contents(room: LiveRoom, named: Iterable[tuple[StateKey, int]], read: Read) -> dict[StateKey, Mapping[str, Any]]:
    """The contents of the steward's events among these. What anybody else managed to send does not count."""
    found: dict[StateKey, Mapping[str, Any]] = {}
    missing = []
    for key, nid in named:
        stored = read(nid)
        if stored is None:
            missing.append(nid)
        elif stored.event.sender == room.create.sender:
            found[key] = stored.event.content
    if missing:
        raise NeedEvents(missing)
    return found

"""What a guild demands of events that come from other servers, beyond what levels can say.

Levels are in the room itself, so whatever they carry is judged with the event. What they don't carry can be enforced
only where it is said, which a plain server does not do, and where it arrives: files, slow mode, mentions of roles, and
whatever speaks in somebody's name. An event that breaks it is soft-failed: it stays part of the room's graph, and is
shown to nobody here. Pieces of state are left to the room's own rules, or servers would part over what a room is.

The guild is taken as it is known here now. So something may be held against somebody whose server heard of a new role
sooner than this one; levels themselves do not have that, as they come with the room.
"""

from __future__ import annotations

from attrs import field

from federation.bounded import Bounded
from federation.room.event import Event
from federation.service import service
from homeserver.errors import Forbidden
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import ATTACH_FILES, MANAGE_CHANNELS, MANAGE_MESSAGES, SEND_MESSAGES
from homeserver.guilds.ranks import check_permission
from homeserver.guilds.rules import check_mentions, message_permissions
from homeserver.guilds.steward import ON_BEHALF_OF, guild_id_of, is_guild_room
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms

LENIENCE_MS = 500
"""Clocks and lines are not exact: so much sooner is soon enough."""


@service
class Arrivals:
    """A `homeserver.rooms.receive.ports.Opinion`, and what the policy server is asked."""

    rooms: Rooms
    book: GuildBook
    _spoke: Bounded[tuple[int, str], int] = field(factory=lambda: Bounded(50_000))
    """Channel (nid) and user → the time of the last thing that they said there. Only in channels with slow mode."""

    async def __call__(self, room: LiveRoom, event: Event, *, counts: bool = True) -> str | None:
        """Why the guild does not want an event; None where there is nothing against it.

        `counts`: it comes in if nothing is, so that slow mode begins to run.
        """
        guild_id = guild_id_of(room)
        if guild_id is None or event.state_key is not None or event.sender == room.create.sender:
            return None
        if ON_BEHALF_OF in event.content:
            return f"only the guild's own account may say {ON_BEHALF_OF!r}"
        guild_room = room if guild_id == room.room_id else await self.rooms.get(guild_id)
        if guild_room is None or guild_room.create.sender != room.create.sender:
            return None
        guild = await self.book.find(guild_room)
        channel = None if guild is None or is_guild_room(room) else guild.channels.get(room.room_id)
        if guild is None or (channel is None and room is not guild_room):
            return None
        try:
            return self._judge(room, guild, channel, event, counts=counts)
        except Forbidden as error:
            return error.error

    def _judge(
        self, room: LiveRoom, guild: Guild, channel: Channel | None, event: Event, *, counts: bool
    ) -> str | None:
        needed = message_permissions(event.type, event.content)
        check_permission(guild, event.sender, needed & ATTACH_FILES, channel)
        check_mentions(guild, channel, event.sender, event.content)
        if channel is None or not channel.slowmode_s or not needed & SEND_MESSAGES:
            return None
        if guild.permissions(event.sender, channel) & (MANAGE_MESSAGES | MANAGE_CHANNELS):
            return None
        key, now = (room.nid, event.sender), event.origin_server_ts
        last = self._spoke.get(key)
        if last is not None and 0 <= now - last < 1_000 * channel.slowmode_s - LENIENCE_MS:
            return "slow mode: it came too soon after what was said before"
        if counts and (last is None or now > last):
            self._spoke.put(key, now)
        return None

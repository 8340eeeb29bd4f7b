"""Guilds with `policy: true`: this server looks at every event of their rooms first, so that plain servers keep to the
roles exactly, too. It signs what the guild's rules allow (`homeserver.rooms.policy`).
"""

from __future__ import annotations

from federation.room.event import Event
from federation.service import service
from homeserver.errors import Forbidden
from homeserver.guilds.arrivals import Arrivals
from homeserver.guilds.book import GuildBook
from homeserver.guilds.ranks import check_permission
from homeserver.guilds.rules import message_permissions
from homeserver.guilds.steward import guild_id_of, is_guild_room
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms


@service
class Policing:
    """A `homeserver.rooms.policy.desk.Rule` for the rooms of this server's guilds."""

    steward: str
    rooms: Rooms
    book: GuildBook
    arrivals: Arrivals

    async def __call__(self, room: LiveRoom, origin: str, event: Event) -> str | None:
        guild_id = guild_id_of(room)
        if guild_id is None or room.create.sender != self.steward or event.sender == self.steward:
            return None
        guild_room = await self.rooms.get(guild_id)
        guild = None if guild_room is None else await self.book.find(guild_room)
        if guild is None or event.state_key is not None:
            return None
        channel = None if is_guild_room(room) else guild.channels.get(room.room_id)
        if channel is None and room is not guild_room:
            return "this channel is no longer part of its guild"
        try:
            check_permission(guild, event.sender, message_permissions(event.type, event.content), channel)
        except Forbidden as error:
            return error.error
        return await self.arrivals(room, event, counts=False)

"""What somebody may do in a room: by the guild that it belongs to, and by its power levels.

For what is no event by itself, so that no rule of the room judges it: looking into figures, planning to say something.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.room.auth import PowerLevels
from federation.service import service
from homeserver.errors import Forbidden
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import Permissions
from homeserver.guilds.ranks import check_permission
from homeserver.guilds.rules import check_mentions, message_permissions
from homeserver.guilds.steward import guild_id_of
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import POWER_LEVELS, LiveRoom
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms


@service
class RoomRights:
    """Judges."""

    rooms: Rooms
    book: GuildBook
    events: EventCache

    async def member(self, room_id: str, user_id: str) -> LiveRoom:
        """The room, for somebody who is in it. Raises Forbidden, whether there is one or not."""
        room = await self.rooms.require(room_id)
        if room.membership_of(user_id) != "join":
            raise Forbidden(NOT_IN_ROOM)
        return room

    async def place_of(self, room: LiveRoom) -> tuple[Guild, Channel | None] | None:
        """The guild that a room belongs to, and which of its channels it is: None for the guild's own room. None for
        rooms of no guild, and for channels that their guild has given up.
        """
        guild_id = guild_id_of(room)
        if guild_id is None:
            return None
        guild_room = room if guild_id == room.room_id else await self.rooms.get(guild_id)
        if guild_room is None or guild_room.create.sender != room.create.sender:
            return None
        guild = await self.book.find(guild_room)
        if guild is None:
            return None
        channel = guild.channels.get(room.room_id)
        return None if channel is None and guild_room is not room else (guild, channel)

    async def levels(self, room: LiveRoom) -> PowerLevels:
        ref = room.visible.state.get(POWER_LEVELS)
        stored = None if ref is None else await self.events.get(ref.nid)
        return PowerLevels.parse(room.version, room.create, None if stored is None else stored.event)

    async def check(self, room: LiveRoom, user_id: str, needed: Permissions) -> None:
        """Raises Forbidden unless somebody holds a permission there; in rooms of no guild, unless they may change how
        the room is: `state_default`.
        """
        place = await self.place_of(room)
        if place is not None:
            guild, channel = place
            check_permission(guild, user_id, needed, channel)
            return
        levels = await self.levels(room)
        if levels.user(user_id) < levels.event("", is_state=True):
            raise Forbidden("Only those who may change the room's settings may do that")

    async def check_message(self, room_id: str, user_id: str, event_type: str, content: Mapping[str, Any]) -> None:
        """Raises Forbidden for who could not send this now. Whether they can when it is sent is judged then."""
        room = await self.member(room_id, user_id)
        place = await self.place_of(room)
        if place is not None:
            guild, channel = place
            check_permission(guild, user_id, message_permissions(event_type, content), channel)
            check_mentions(guild, channel, user_id, content)
        levels = await self.levels(room)
        if levels.user(user_id) < levels.event(event_type, is_state=False):
            raise Forbidden("You may not send this here")

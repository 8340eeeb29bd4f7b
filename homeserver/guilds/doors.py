"""Who comes and goes at the doors of guilds and channels: plain memberships turned into the guild's own operations.

A client that knows nothing of guilds joins a room, leaves it, kicks and bans; in a guild of this server's steward that
is an operation of the guild's. And whatever happened to a guild's room by another server is looked after here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from federation.service import service
from homeserver.errors import Forbidden
from homeserver.guilds.abroad.errands import Errands
from homeserver.guilds.attendance import Attendance
from homeserver.guilds.book import GuildBook
from homeserver.guilds.closing import Closer
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import VIEW_CHANNEL
from homeserver.guilds.reconcile import Reconciler
from homeserver.guilds.steward import guild_id_of, is_guild_room
from homeserver.rooms.accept import Accepted
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import Act
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from storage import guilds as rows
from storage.database import Database


@service
class GuildDoors:
    """A `Warden`, a `Grant` for channels that not everybody may view, and an observer of guilds' rooms."""

    steward: str
    rooms: Rooms
    book: GuildBook
    attendance: Attendance
    reconciler: Reconciler
    closer: Closer
    errands: Errands
    tasks: Tasks
    database: Database

    async def spoilt(self) -> Sequence[str]:
        """Guilds in which state of the steward's was redacted, be it now as it should be or not."""
        rooms = [await self.rooms.get(room_id) for room_id in await self.database.run(rows.spoilt, self.steward)]
        found = {guild_id_of(room) for room in rooms if room is not None and room.create.sender == self.steward}
        return sorted(guild_id for guild_id in found if guild_id is not None)

    async def takes(self, act: Act) -> bool:
        room = await self.rooms.get(act.room_id)
        if room is None or act.actor == self.steward:
            return False
        guild_id = guild_id_of(room)
        if guild_id is None:
            return False
        if room.create.sender != self.steward:
            return await self._takes_afar(act, room, guild_id)
        guild = await self.book.require(guild_id)
        match act.kind:
            case "join":
                return await self._join(act, room, guild)
            case "leave":
                if not is_guild_room(room) or room.membership_of(act.actor) != "join":
                    return False
                await self.attendance.leave(guild_id, act.actor, act.reason)
            case "kick":
                await self.attendance.kick(guild_id, act.actor, act.target, act.reason, purge=act.purge)
            case "ban":
                await self.attendance.ban(guild_id, act.actor, act.target, act.reason, purge=act.purge)
            case "unban":
                await self.attendance.unban(guild_id, act.actor, act.target, act.reason)
            case "invite":
                await self.attendance.invite(guild_id, room, act.actor, act.target, act.reason)
        return True

    async def _takes_afar(self, act: Act, room: LiveRoom, guild_id: str) -> bool:
        """The same in a guild that lives elsewhere: whoever leaves it leaves its channels, and the guild's own server
        puts people out.
        """
        server = await self.errands.home_of(guild_id, act.actor)
        guild_room = await self.rooms.get(guild_id)
        if server is None or guild_room is None or guild_room.create.sender != room.create.sender:
            return False
        if act.kind == "leave" and is_guild_room(room):
            await self.attendance.leave(guild_id, act.actor, act.reason)
            return True
        if act.kind not in ("kick", "ban", "unban"):
            return False
        action = f"POST guilds/{quote(guild_id, safe='')}/members/{quote(act.target, safe='')}/{act.kind}"
        params: dict[str, Any] = {} if act.reason is None else {"reason": act.reason}
        if act.purge:
            params["purge"] = True
        await self.errands.run(server, guild_id, act.actor, action, params)
        return True

    async def may_view(self, rule: Mapping[str, Any], room: LiveRoom, user_id: str) -> bool | None:
        """Whether a join rule of a channel's that names the guild lets somebody in."""
        guild_id = rule.get("room_id")
        guild_room = await self.rooms.get(guild_id) if isinstance(guild_id, str) else None
        if guild_room is None or not guild_room.local_joined:
            return None
        guild = await self.book.find(guild_room)
        channel = None if guild is None else guild.channels.get(room.room_id)
        if guild is None or channel is None or guild_room.membership_of(user_id) != "join":
            return False
        return bool(guild.permissions(user_id, channel) & VIEW_CHANNEL)

    async def is_closed(self, room: LiveRoom, user_id: str) -> bool:
        """Whether the past of a channel is closed to somebody who is not in it, as they may not view it any more."""
        guild_id = guild_id_of(room)
        guild_room = None if guild_id in (None, room.room_id) else await self.rooms.get(guild_id or "")
        if guild_room is None or guild_room.create.sender != room.create.sender:
            return False
        guild = await self.book.find(guild_room)
        if guild is None:
            return False
        channel = guild.channels.get(room.room_id)
        is_member = guild_room.membership_of(user_id) == "join"
        return channel is None or not is_member or not guild.permissions(user_id, channel) & VIEW_CHANNEL

    def accepted(self, accepted: Accepted) -> None:
        """Observer of the door: somebody left by another server, or state of the steward's was redacted."""
        room = accepted.room
        if room.create.sender != self.steward:
            return
        guild_id = guild_id_of(room)
        if guild_id is None or room.room_id in self.closer.closing:
            return
        lost = [stored.event for stored in accepted.redacted if stored.event.state_key is not None]
        if any(event.sender == self.steward for event in lost):
            self.book.forget(room)
            self.reconciler.note(guild_id, None)
            self.reconciler.follow_soon(guild_id)
        if is_guild_room(room):
            for user_id in accepted.departed():
                self.tasks.spawn("guild.departed", self.attendance.departed(guild_id, user_id))

    async def _join(self, act: Act, room: LiveRoom, guild: Guild) -> bool:
        if is_guild_room(room):
            if room.membership_of(act.actor) != "join":
                await self.attendance.enter(room.room_id, act.actor)
            return True
        channel: Channel | None = guild.channels.get(room.room_id)
        if channel is None or not guild.permissions(act.actor, channel) & VIEW_CHANNEL:
            raise Forbidden("You may not view this channel")
        return False

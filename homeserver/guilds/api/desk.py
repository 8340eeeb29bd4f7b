"""What the handlers of the API share: who may look at a guild, and changing one in somebody's name.

To whom a guild or a channel may not be known it does not exist: 404, and the same as for one that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from federation.room.identifiers import server_of
from federation.service import service
from homeserver.errors import NotFound
from homeserver.guilds.book import GuildBook
from homeserver.guilds.editor import Edit, Editor
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import VIEW_CHANNEL
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms

NO_GUILD = "There is no such guild"
NO_CHANNEL = "There is no such channel in this guild"

T = TypeVar("T")


@service
class Desk:
    """See the module's docstring."""

    rooms: Rooms
    book: GuildBook
    editor: Editor
    events: EventCache

    @property
    def server_name(self) -> str:
        return self.editor.door.identity.server_name

    def is_ours(self, user_id: str) -> bool:
        """Whether somebody's home is this server."""
        return str(server_of(user_id)) == self.server_name

    async def look(self, guild_id: str, user_id: str) -> tuple[LiveRoom, Guild]:
        """A guild and its room, for a member. Raises NotFound."""
        room = await self.rooms.get(guild_id)
        if room is None or room.membership_of(user_id) != "join":
            raise NotFound(NO_GUILD)
        guild = await self.book.find(room)
        if guild is None:
            raise NotFound(NO_GUILD)
        return room, guild

    async def guild(self, guild_id: str, user_id: str) -> Guild:
        """The guild, for a member. Raises NotFound."""
        return (await self.look(guild_id, user_id))[1]

    async def edit(self, guild_id: str, actor: str, work: Callable[[Edit], T], *, channels: Collection[str] = ()) -> T:
        """`Editor.edit` by somebody who is in the guild when it is done."""
        await self.guild(guild_id, actor)

        def inside(edit: Edit) -> T:
            if edit.membership_of(actor) != "join":
                raise NotFound(NO_GUILD)
            return work(edit)

        return await self.editor.edit(guild_id, actor, inside, channels=channels)

    async def edit_channel(
        self, guild_id: str, actor: str, room_id: str, work: Callable[[Edit, Channel], T], *, with_room: bool = False
    ) -> T:
        """`edit` of a channel that the actor may view; `with_room`: its room is changed too."""
        guild = await self.guild(guild_id, actor)
        require_channel(guild, actor, room_id)
        if with_room:
            room = await self.rooms.get(room_id)
            if room is None or room.create.sender != self.editor.steward:
                raise NotFound(NO_CHANNEL)

        def on_channel(edit: Edit) -> T:
            return work(edit, require_channel(edit.guild, actor, room_id))

        return await self.edit(guild_id, actor, on_channel, channels=[room_id] if with_room else ())


def require_channel(guild: Guild, user_id: str, room_id: str) -> Channel:
    """The channel, for somebody who may view it. Raises NotFound."""
    channel = guild.channels.get(room_id)
    if channel is None or not guild.permissions(user_id, channel) & VIEW_CHANNEL:
        raise NotFound(NO_CHANNEL)
    return channel

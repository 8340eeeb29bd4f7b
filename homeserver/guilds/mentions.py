"""Whom a mention of roles means: those who have one of them and may view the channel."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
from attrs import field, frozen

from federation.bounded import Bounded
from federation.room.event import Event
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import EVERYONE, MENTION_EVERYONE
from homeserver.guilds.rules import ROLE_MENTIONS
from homeserver.guilds.steward import guild_id_of, is_guild_room
from homeserver.guilds.viewers import Viewers
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms

MOST_REMEMBERED = 200
MOST_ROLES = 50
"""Of one mention; the others mean nobody."""


class _Meant(msgspec.Struct, frozen=True):
    guild: Guild
    people: frozenset[str]


@frozen
class MentionedRoles:
    """A `homeserver.push.ports.RoleMentions`. What would have to be read from disk means nobody."""

    rooms: Rooms
    book: GuildBook
    _known: Bounded[tuple[int, str], _Meant] = field(factory=lambda: Bounded(MOST_REMEMBERED))
    """By room and role, as long as the guild is the same."""

    def __call__(self, room: LiveRoom, event: Event) -> Collection[str]:
        role_ids = mentioned_roles(event.content)
        guild_id = guild_id_of(room) if role_ids else None
        guild_room = None if guild_id is None else self.rooms.peek(guild_id)
        guild = None if guild_room is None else self.book.peek(guild_room)
        if guild_room is None or guild is None or guild_room.create.sender != room.create.sender:
            return ()
        channel = None if is_guild_room(room) else guild.channels.get(room.room_id)
        if channel is None and room is not guild_room:
            return ()
        found: set[str] = set()
        for role_id in role_ids:
            role = guild.role(role_id)
            if role is None:
                continue
            if role.mentionable or guild.permissions(event.sender, channel) & MENTION_EVERYONE:
                found.update(self._holders(room, guild, channel, role_id))
        return found

    def _holders(self, room: LiveRoom, guild: Guild, channel: Channel | None, role_id: str) -> Collection[str]:
        """Those of this server: nobody else is told by it."""
        if role_id == EVERYONE:
            return room.local_joined
        known = self._known.get((room.nid, role_id))
        if known is None or known.guild is not guild:
            holders = {user_id for roles, some in guild.holders.items() if role_id in roles for user_id in some}
            if channel is not None:
                viewers = Viewers(guild, channel)
                holders = {user_id for user_id in holders if viewers.holds(user_id)}
            known = _Meant(guild, frozenset(holders))
            self._known.put((room.nid, role_id), known)
        return known.people & room.local_joined


def mentioned_roles(content: Mapping[str, object]) -> list[str]:
    """The ids of the roles that an event's content mentions."""
    mentions = content.get("m.mentions")
    named = mentions.get(ROLE_MENTIONS) if isinstance(mentions, Mapping) else None
    return [one for one in named[:MOST_ROLES] if isinstance(one, str)] if isinstance(named, list) else []

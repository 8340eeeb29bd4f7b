"""What a guild demands of this server's own people beyond what levels can say: exact permissions, checked as they send.

Levels are sound but coarse (`projection`), so whatever gets past this still has to pass them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field

from federation.bounded import Bounded
from federation.service import service
from homeserver.clock import Clock
from homeserver.errors import Forbidden, LimitExceeded
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import (
    ADD_REACTIONS,
    ATTACH_FILES,
    CONNECT,
    EDIT_CHANNEL,
    MANAGE_CHANNELS,
    MANAGE_GUILD,
    MANAGE_MESSAGES,
    MENTION_EVERYONE,
    SEND_MESSAGES,
    Permissions,
)
from homeserver.guilds.projection import BEACON_TYPES, CALL_TYPES
from homeserver.guilds.ranks import check_permission
from homeserver.guilds.steward import ON_BEHALF_OF, guild_id_of, is_guild_room
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import MEMBER, Check
from homeserver.rooms.registry import Rooms

MEDIA_TYPES: Final = frozenset(["m.image", "m.video", "m.audio", "m.file"])
ROLE_MENTIONS: Final = "chat.guildhall.roles"
"""Inside `m.mentions`: ids of the roles that are mentioned."""
ABOUT_ROOM: Final = frozenset(["m.room.name", "m.room.topic", "m.room.avatar"])


@service
class GuildRules:
    """A `SendRule` for guilds and channels, wherever their steward lives."""

    rooms: Rooms
    book: GuildBook
    clock: Clock
    _spoke: Bounded[tuple[int, str], int] = field(factory=lambda: Bounded(50_000))
    """Channel (nid) and user → when they last said something, in ms. Only in channels with slow mode."""

    async def check_for(self, room: LiveRoom, template: Template) -> Check | None:
        guild_id = guild_id_of(room)
        if guild_id is None or template.sender == room.create.sender:
            return None
        guild_room = room if guild_id == room.room_id else await self.rooms.get(guild_id)
        if guild_room is None or guild_room.create.sender != room.create.sender:
            return None  # not known here, or no guild of the channel's maker: then only the levels count
        found = await self.book.find(guild_room)
        if found is None:
            return None
        first: Guild = found

        def check(draft: Draft) -> None:
            # What was edited while the room was read counts already.
            guild = self.book.peek(guild_room) or first
            self._check(draft, guild, template)

        return check

    def _check(self, draft: Draft, guild: Guild, template: Template) -> None:
        room, sender = draft.room, template.sender
        channel = None if is_guild_room(room) else guild.channels.get(room.room_id)
        if channel is None and room.room_id != guild.room_id:
            raise Forbidden("This channel is no longer part of its guild")
        if ON_BEHALF_OF in template.content:
            raise Forbidden(f"Only the guild's own account may say {ON_BEHALF_OF!r}")
        if template.state_key is not None:
            self._check_state(guild, channel, template, template.state_key)
            return
        needed = message_permissions(template.type, template.content)
        check_permission(guild, sender, needed, channel)
        check_mentions(guild, channel, sender, template.content)
        if channel is not None and channel.slowmode_s and needed & SEND_MESSAGES:
            self._check_pace(room, guild, channel, sender)

    def _check_state(self, guild: Guild, channel: Channel | None, template: Template, state_key: str) -> None:
        sender, event_type = template.sender, template.type
        if event_type == MEMBER:
            if state_key != sender:
                raise Forbidden("Members are put out and let in by the guild's own calls")
        elif event_type in ABOUT_ROOM:
            check_permission(guild, sender, MANAGE_GUILD if channel is None else EDIT_CHANNEL, channel)
        elif event_type == "m.room.pinned_events":
            check_permission(guild, sender, MANAGE_MESSAGES, channel)
        elif event_type in CALL_TYPES:
            check_permission(guild, sender, CONNECT, channel)
            if not _is_own_key(state_key, sender):
                raise Forbidden("You may only say of yourself that you are in a call")
        elif event_type in BEACON_TYPES:
            check_permission(guild, sender, SEND_MESSAGES, channel)
            if not _is_own_key(state_key, sender):
                raise Forbidden("You may only say where you are yourself")
        elif event_type != "m.room.tombstone" or not guild.is_owner(sender):
            raise Forbidden("This is set by the guild itself: use its own calls")

    def _check_pace(self, room: LiveRoom, guild: Guild, channel: Channel, sender: str) -> None:
        if guild.permissions(sender, channel) & (MANAGE_MESSAGES | MANAGE_CHANNELS):
            return
        now, key = self.clock.now_ms(), (room.nid, sender)
        last = self._spoke.get(key)
        wait_ms = 0 if last is None else last + 1_000 * channel.slowmode_s - now
        if wait_ms > 0:
            raise LimitExceeded(wait_ms)
        self._spoke.put(key, now)


def message_permissions(event_type: str, content: Mapping[str, Any]) -> Permissions:
    """What sending a message event needs, mentions apart."""
    if event_type == "m.room.redaction":
        return 0  # of one's own messages; for others' the level is needed that `manage_messages` gives
    if event_type == "m.reaction":
        return ADD_REACTIONS
    if event_type in CALL_TYPES:
        return CONNECT
    if event_type == "m.room.message" and content.get("msgtype") in MEDIA_TYPES:
        return SEND_MESSAGES | ATTACH_FILES
    return SEND_MESSAGES


def check_mentions(guild: Guild, channel: Channel | None, sender: str, content: Mapping[str, Any]) -> None:
    """Raises Forbidden for who mentions all, or roles, and may not."""
    mentions = content.get("m.mentions")
    if not isinstance(mentions, Mapping):
        return
    named = mentions.get(ROLE_MENTIONS)
    roles = named if isinstance(named, list) else []
    needs_leave = mentions.get("room") is True or any(not _is_mentionable(guild, role_id) for role_id in roles)
    if needs_leave:
        check_permission(guild, sender, MENTION_EVERYONE, channel)


def _is_mentionable(guild: Guild, role_id: Any) -> bool:
    role = guild.role(role_id) if isinstance(role_id, str) else None
    return role is not None and role.mentionable


def _is_own_key(state_key: str, user_id: str) -> bool:
    """`@user`, or as MSC3757 and Element Call write it: `@user_DEVICE`, `_@user_DEVICE_m.call`."""
    bare = state_key.removeprefix("_")
    return bare == user_id or bare.startswith(f"{user_id}_")

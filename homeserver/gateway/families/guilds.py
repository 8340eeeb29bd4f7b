"""`server.*`, `role.*`, `category.*` and `channel.*`: what the state of a guild's room says."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.gateway.families.happening import Happening, Told, step, tell
from homeserver.guilds.model import CATEGORY_TYPE, CHANNEL_TYPE, CHILD_TYPE, GUILD_TYPE, MEMBER_TYPE, ROLE_TYPE
from homeserver.guilds.steward import ON_BEHALF_OF

ABOUT = frozenset(
    ["m.room.name", "m.room.topic", "m.room.avatar", "m.room.server_acl", "m.room.image_pack", "m.room.tombstone"]
)


def of_guilds(one: Happening) -> Sequence[Told]:
    event = one.event
    if one.guild_id != event.room_id or event.state_key is None:
        return ()
    key, guild_id = event.state_key, one.guild_id
    match event.type:
        case "m.room.member":
            return _of_member(one)
        case _ if event.type in ABOUT or event.type == GUILD_TYPE:
            return (tell("server.updated", guild_id=guild_id, names_room=False),)
        case _ if event.type == MEMBER_TYPE:
            return (tell("server.updated", guild_id=guild_id, user_id=key.removeprefix("_"), names_room=False),)
        case _ if event.type == ROLE_TYPE:
            kind = step("role", event.content, one.before)
            return () if kind is None else (tell(kind, guild_id=guild_id, role_id=key, names_room=False),)
        case _ if event.type == CATEGORY_TYPE:
            kind = step("category", event.content, one.before)
            return () if kind is None else (tell(kind, guild_id=guild_id, category_id=key, names_room=False),)
        case _ if event.type == CHANNEL_TYPE:
            return _of_channel(one)
        case _ if event.type == CHILD_TYPE and "via" in event.content and "via" in one.before:
            return (tell("channel.updated", guild_id=guild_id, room_id=key, channel_id=key),)
    return ()


def _of_member(one: Happening) -> Sequence[Told]:
    event, guild_id = one.event, one.guild_id
    named = {"guild_id": guild_id, "user_id": event.state_key}
    match one.membership:
        case "join" if one.was == "join":
            return (tell("server.updated", **named, names_room=False),)
        case "join":
            return (tell("server.member_joined", **named, names_room=False),)
        case "ban":
            return (tell("server.member_kicked", **named, is_banned=True, reason=_reason(one), names_room=False),)
        case "leave" if one.was == "join":
            if event.sender == event.state_key:
                return (tell("server.member_left", **named, names_room=False),)
            if event.sender == one.creator and ON_BEHALF_OF not in event.content:
                # The guild is being deleted: everybody is put out, and that is all there is to say to each.
                return (tell("server.deleted", guild_id=guild_id, names_room=False),) if one.is_own else ()
            return (tell("server.member_kicked", **named, reason=_reason(one), names_room=False),)
    return ()


def _of_channel(one: Happening) -> Sequence[Told]:
    event = one.event
    kind = step("channel", event.content, one.before)
    if kind is None or event.state_key is None:
        return ()
    if kind == "channel.created" and not one.is_lazy:
        return ()  # everybody who may view it is brought into it, and told then
    return (tell(kind, guild_id=one.guild_id, room_id=event.state_key, channel_id=event.state_key),)


def _reason(one: Happening) -> str | None:
    reason = one.event.content.get("reason")
    return reason if isinstance(reason, str) else None

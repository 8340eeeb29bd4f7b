"""`channel.*`, of what happens in a channel's room: it comes into view, says something else of itself, and goes."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.gateway.families.happening import Happening, Told, tell

ABOUT = frozenset(
    [
        "m.room.name",
        "m.room.topic",
        "m.room.avatar",
        "m.room.pinned_events",
        "m.room.encryption",
        "m.room.history_visibility",
        "m.room.retention",
    ]
)


def of_channels(one: Happening) -> Sequence[Told]:
    event = one.event
    if one.guild_id is None or one.guild_id == event.room_id or event.state_key is None:
        return ()
    if event.type in ABOUT:
        return (tell("channel.updated", guild_id=one.guild_id),)
    if event.type != "m.room.member" or not one.is_own or not one.is_member:
        return ()  # who comes and goes in a guild is told once, of the guild
    match one.membership:
        case "join" if one.was != "join":
            return (tell("channel.updated" if one.is_lazy else "channel.created", guild_id=one.guild_id),)
        case "leave" if one.was == "join" and one.is_channel:
            return (tell("channel.deleted", guild_id=one.guild_id),)
    return ()

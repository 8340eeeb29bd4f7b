"""Who may view a channel, asked for many at once: by sets of roles, of which there are few however many have them."""

from __future__ import annotations

from typing import Final

from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import VIEW_CHANNEL, Permissions, outcome
from homeserver.rooms.live import LiveRoom

LAZY_FROM: Final = 1_000
"""Members from which on, unless the guild says otherwise, a channel is joined when it is first opened."""


class Viewers:
    """Those who may view one channel."""

    def __init__(self, guild: Guild, channel: Channel) -> None:
        self._guild, self._channel = guild, channel
        self._overridden = guild.overrides_in(channel)
        self._of_roles: dict[tuple[str, ...], Permissions] = {}

    def holds(self, user_id: str) -> bool:
        guild, channel = self._guild, self._channel
        if user_id in self._overridden or guild.is_owner(user_id):
            return bool(guild.permissions(user_id, channel) & VIEW_CHANNEL)
        roles = guild.member(user_id).roles
        if roles not in self._of_roles:
            self._of_roles[roles] = outcome(guild.steps(roles, "", channel))
        return bool(self._of_roles[roles] & VIEW_CHANNEL)


def channels_for(guild: Guild, user_id: str) -> list[Channel]:
    """The channels that somebody may view, in an explicit order."""
    found = [channel for channel in guild.channels.values() if guild.permissions(user_id, channel) & VIEW_CHANNEL]
    return sorted(found, key=lambda channel: channel.room_id)


def has_opened(before: Guild, guild: Guild, channel: Channel) -> bool:
    """Whether a channel is open now to some who could not view it with the same roles before; a new one is."""
    was = before.channels.get(channel.room_id)
    return was is None or _is_wider(guild, channel, before, was)


def has_closed(before: Guild, guild: Guild, channel: Channel) -> bool:
    """Whether the channel is closed now to some who could view it with the same roles before."""
    was = before.channels.get(channel.room_id)
    return was is None or _is_wider(before, was, guild, channel)


def is_lazy(guild: Guild, room: LiveRoom) -> bool:
    """Whether members join a channel when they first open it, and not with the guild. `room`: the guild's."""
    if guild.settings.lazy is not None:
        return guild.settings.lazy
    return (room.joined_count or 0) >= LAZY_FROM


def _is_wider(one: Guild, in_one: Channel, other: Guild, in_other: Channel) -> bool:
    """Whether somebody may view a channel as it is in one guild, and not with the same roles in the other."""
    overridden = {*one.overrides_in(in_one), *other.overrides_in(in_other)}
    people = [target for target in overridden if target.startswith("@")]
    roles = {(), *one.holders, *other.holders}
    for some in roles:
        if outcome(one.steps(some, "", in_one)) & ~outcome(other.steps(some, "", in_other)) & VIEW_CHANNEL:
            return True
    return any(one.permissions(user, in_one) & ~other.permissions(user, in_other) & VIEW_CHANNEL for user in people)

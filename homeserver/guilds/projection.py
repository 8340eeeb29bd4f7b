"""Roles as power levels: what a guild's rooms have to say so that servers which know no roles keep to them too.

A room has one order of levels, roles have none; so the permissions that levels carry are put in a row, and somebody's
level says how many of them, from the first on, they hold:

    row       send_messages   add_reactions   connect   edit_channel   mention_everyone   manage_messages
    level            8              16           24           32                50                58

Each action's threshold is its permission's place in the row. So whoever reaches a threshold holds the permission
(and all that stand before it): that is the security property, and it holds whatever the row is. Where the sets that
members hold form a chain under inclusion there is a row of which each set is a beginning; then everybody who holds a
permission reaches its threshold, too. `arrange` finds it.

`mention_everyone` stands at 50 and whoever lacks it below, because a power-levels event that is redacted loses
`notifications`, and 50 is what counts then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import (
    ADD_REACTIONS,
    ADMINISTRATOR,
    CONNECT,
    EDIT_CHANNEL,
    EVERYTHING,
    MANAGE_GUILD,
    MANAGE_MESSAGES,
    MENTION_EVERYONE,
    NOTHING,
    SEND_MESSAGES,
    VIEW_CHANNEL,
    Permissions,
    outcome,
)

OWNER_LEVEL: Final = 150
"""Enough for `m.room.tombstone` and for nothing else that others may not do."""
STEWARD_LEVEL: Final = 1_000
"""What nobody reaches but the creator."""
NOTIFY_LEVEL: Final = 50
STEP: Final = 8
"""Between two levels: all of those below `NOTIFY_LEVEL` have to fit there."""

CALL_TYPES: Final = (
    "org.matrix.msc3401.call.member",
    "org.matrix.msc4143.rtc.member",
    "m.rtc.member",
)
"""Being in a call: one's own membership of it."""

BEACON_TYPES: Final = ("m.beacon_info", "org.matrix.msc3672.beacon_info")
"""Sharing one's location: state, but said as messages are."""

STEWARD_TYPES: Final = (
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.canonical_alias",
    "m.room.retention",
    "m.room.policy",
    "m.room.image_pack",
    "m.space.child",
    "m.space.parent",
    "chat.guildhall.guild",
    "chat.guildhall.role",
    "chat.guildhall.member",
    "chat.guildhall.category",
    "chat.guildhall.channel",
)
"""State that is the steward's alone. `state_default` says so for any other too; these are named because a message of
such a type must not be sent either."""

IN_CHANNEL: Final = (
    SEND_MESSAGES,
    ADD_REACTIONS,
    CONNECT,
    EDIT_CHANNEL,
    MENTION_EVERYONE,
    MANAGE_MESSAGES,
)
"""What levels carry in a channel, in the order in which it stands in the row where nothing else decides."""
IN_GUILD: Final = (SEND_MESSAGES, ADD_REACTIONS, CONNECT, MENTION_EVERYONE, MANAGE_MESSAGES, MANAGE_GUILD)
"""The same in the guild's own room."""


class Row:
    """Permissions in the order of their thresholds."""

    __slots__ = ("_row", "levels")

    def __init__(self, row: Sequence[Permissions]) -> None:
        self._row = row
        self.levels = dict(zip(row, _levels(row), strict=True))

    def level(self, permissions: Permissions) -> int:
        """The level of somebody who holds these: of the last in the row before the first that they lack."""
        found = 0
        for permission in self._row:
            if not permissions & permission:
                break
            found = self.levels[permission]
        return found

    def content(self, edit: Permissions, default: int, users: Mapping[str, int]) -> dict[str, Any]:
        """The content of the `m.room.power_levels`. `edit`: what lets one change name and topic."""
        of = self.levels
        is_guild = edit == MANAGE_GUILD
        events = {
            **dict.fromkeys(STEWARD_TYPES, STEWARD_LEVEL),
            "m.room.tombstone": OWNER_LEVEL,
            "m.room.name": of[edit],
            "m.room.topic": of[edit],
            "m.room.avatar": of[edit],
            "m.room.pinned_events": of[MANAGE_MESSAGES],
            "m.reaction": of[ADD_REACTIONS],
            # Whoever may not write may still take back what they wrote.
            "m.room.redaction": 0,
            **dict.fromkeys(CALL_TYPES, of[CONNECT]),
            **dict.fromkeys(BEACON_TYPES, of[SEND_MESSAGES]),
        }
        return {
            "users": dict(sorted(users.items())),
            "users_default": default,
            "events": dict(sorted(events.items())),
            "events_default": of[SEND_MESSAGES],
            "state_default": STEWARD_LEVEL,
            "ban": STEWARD_LEVEL,
            "kick": STEWARD_LEVEL,
            "invite": STEWARD_LEVEL,
            # Redacting state in the guild's room would empty roles.
            "redact": STEWARD_LEVEL if is_guild else of[MANAGE_MESSAGES],
            "notifications": {"room": of[MENTION_EVERYONE]},
        }


def project(guild: Guild, channel: Channel | None = None) -> dict[str, Any]:
    """The content of `m.room.power_levels` for a channel, or for the guild's own room.

    Costs as much as there are sets of roles, and people who have another level than most.
    """
    carried, edit = (IN_GUILD, MANAGE_GUILD) if channel is None else (IN_CHANNEL, EDIT_CHANNEL)
    sets = {roles: outcome(guild.steps(roles, "", channel)) for roles in guild.holders}
    single = {user_id: guild.permissions(user_id, channel) for user_id in _overridden(guild, channel)}
    default = outcome(guild.steps((), "", channel))
    is_closed = channel is not None and not default & VIEW_CHANNEL
    if is_closed and channel is not None:
        default = _shared_by_viewers(guild, channel)
    row = Row(arrange({default, *sets.values(), *single.values()}, carried))
    users_default = row.level(default)

    def is_listed(permissions: Permissions) -> bool:
        # Whoever may not view a closed channel is not in it, and the room's join rule lets nobody in.
        return row.level(permissions) != users_default and not (is_closed and not permissions & VIEW_CHANNEL)

    users = {
        user_id: row.level(permissions)
        for roles, permissions in sets.items()
        if is_listed(permissions)
        for user_id in guild.holders[roles]
    }
    for user_id, permissions in single.items():
        if is_listed(permissions):
            users[user_id] = row.level(permissions)
        else:
            users.pop(user_id, None)
    if guild.settings.owner:
        users[guild.settings.owner] = OWNER_LEVEL
    return row.content(edit, users_default, users)


def arrange(sets: Collection[Permissions], carried: Sequence[Permissions]) -> list[Permissions]:
    """The row for these sets: what more of them hold stands further in front.

    If they form a chain under inclusion, each of them is a beginning of the row: a permission of a smaller set is in
    every larger one, so it is held at least as often, and those that are held equally often are in the same sets. It
    counts sets and not people, so that the row does not change with every member who comes or goes.
    """
    masks = {permissions & _all(carried) for permissions in sets}
    often = {permission: sum(1 for mask in masks if mask & permission) for permission in carried}
    return sorted(carried, key=lambda permission: -often[permission])


def _levels(row: Sequence[Permissions]) -> Iterator[int]:
    turn = row.index(MENTION_EVERYONE)
    for place, _ in enumerate(row):
        yield STEP * (place + 1) if place < turn else NOTIFY_LEVEL + STEP * (place - turn)


def _all(permissions: Iterable[Permissions]) -> Permissions:
    found = NOTHING
    for permission in permissions:
        found |= permission
    return found


def _overridden(guild: Guild, channel: Channel | None) -> list[str]:
    """People with an override of their own, also those who are away: they may come back over another server."""
    if channel is None:
        return []
    return [target for target in guild.overrides_in(channel) if target.startswith("@")]


def _shared_by_viewers(guild: Guild, channel: Channel) -> Permissions:
    """What everybody holds whom roles let into a channel that is not for everybody.

    A set of roles that grants the view and lacks a permission has a part of at most two roles that does so as well:
    one that grants the view, and one that denies the permission. So no larger sets need be looked at. Where no role
    grants the view, only overrides of single members do, and those are listed.
    """
    role_ids = [role.role_id for role in guild.roles.values() if not role.permissions & ADMINISTRATOR]
    opening = [(role_id,) for role_id in role_ids]
    shared = EVERYTHING
    granting = [roles for roles in opening if outcome(guild.steps(roles, "", channel)) & VIEW_CHANNEL]
    for roles in granting:
        shared &= outcome(guild.steps(roles, "", channel))
    denying = [target for target in role_ids if (override := guild.overrides_in(channel).get(target)) and override.deny]
    for roles in granting:
        for role_id in denying:
            both = outcome(guild.steps((*roles, role_id), "", channel))
            if both & VIEW_CHANNEL:
                shared &= both
    return shared if granting else NOTHING

"""What a role can permit, and how roles and overrides add up to what somebody may do.

    union of everyone's and the roles' permissions
      → owner or administrator: everything
      → an announcement channel takes `send_messages` away
      → the override for everyone          deny, then allow
      → the overrides for the roles        all denies, then all allows
      → the override for the member        deny, then allow
      → without `view_channel`: nothing

A set of permissions is an integer with a bit for each: thousands of members times dozens of channels are computed at
once when somebody edits a role.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

Permissions: TypeAlias = int
"""A set of them, a bit each."""

NAMES: Final = (
    "view_channel",
    "send_messages",
    "edit_channel",
    "add_reactions",
    "attach_files",
    "mention_everyone",
    "create_invite",
    "manage_messages",
    "kick_members",
    "ban_members",
    "manage_nicknames",
    "manage_emoji",
    "manage_channels",
    "manage_roles",
    "manage_guild",
    "view_analytics",
    "connect",
    "speak",
    "stream",
    "mute_members",
    "deafen_members",
    "move_members",
    "administrator",
)
"""As they stand in events and in the API."""

(
    VIEW_CHANNEL,
    SEND_MESSAGES,
    EDIT_CHANNEL,
    ADD_REACTIONS,
    ATTACH_FILES,
    MENTION_EVERYONE,
    CREATE_INVITE,
    MANAGE_MESSAGES,
    KICK_MEMBERS,
    BAN_MEMBERS,
    MANAGE_NICKNAMES,
    MANAGE_EMOJI,
    MANAGE_CHANNELS,
    MANAGE_ROLES,
    MANAGE_GUILD,
    VIEW_ANALYTICS,
    CONNECT,
    SPEAK,
    STREAM,
    MUTE_MEMBERS,
    DEAFEN_MEMBERS,
    MOVE_MEMBERS,
    ADMINISTRATOR,
) = (1 << bit for bit in range(len(NAMES)))

NOTHING: Final[Permissions] = 0
EVERYTHING: Final[Permissions] = (1 << len(NAMES)) - 1

GUILD_WIDE: Final[Permissions] = (
    ADMINISTRATOR
    | MANAGE_GUILD
    | MANAGE_EMOJI
    | KICK_MEMBERS
    | BAN_MEMBERS
    | CREATE_INVITE
    | MANAGE_NICKNAMES
    | VIEW_ANALYTICS
)
"""What an override cannot speak of: it is of the guild, not of a channel."""

_BITS: Final[Mapping[str, Permissions]] = {name: 1 << bit for bit, name in enumerate(NAMES)}


class UnknownPermission(ValueError):
    """A name that is no permission."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{name!r} is not a permission")


def parse_permissions(names: Iterable[object]) -> Permissions:
    """The set that these names make. Raises UnknownPermission."""
    found = NOTHING
    for name in names:
        bit = _BITS.get(name) if isinstance(name, str) else None
        if bit is None:
            raise UnknownPermission(name)
        found |= bit
    return found


def read_permissions(value: object) -> Permissions:
    """The set that an event lists. What this server does not know permits nothing: it may be of a newer version."""
    if not isinstance(value, list):
        return NOTHING
    found = NOTHING
    for name in value:
        found |= _BITS.get(name, NOTHING) if isinstance(name, str) else NOTHING
    return found


def permission_names(permissions: Permissions) -> list[str]:
    """The set's names, in the order of `NAMES`."""
    return [name for bit, name in enumerate(NAMES) if permissions >> bit & 1]


class Override(msgspec.Struct, frozen=True, gc=False):
    """What a channel or category gives a role or member beside its permissions, and what it takes."""

    allow: Permissions = NOTHING
    deny: Permissions = NOTHING

    def over(self, permissions: Permissions) -> Permissions:
        """Deny, then allow."""
        return permissions & ~self.deny | self.allow


class Step(msgspec.Struct, frozen=True, gc=False):
    """One rule on the way to a member's permissions, and what they were after it."""

    rule: str
    """`role`, `owner`, `administrator`, `announcement`, `override` or `hidden`."""
    source: str
    """Whose: a role id or a user id; the guild, where it is a rule of guilds themselves."""
    allow: Permissions
    deny: Permissions
    result: Permissions


GUILD: Final = "guild"
EVERYONE: Final = "everyone"


def steps_in_guild(roles: Sequence[tuple[str, Permissions]], user_id: str, *, is_owner: bool) -> Iterator[Step]:
    """How somebody's permissions in the guild come about: the union of its roles' (id and permissions each).

    `roles` begin with `everyone`. There is at least one step.
    """
    result = NOTHING
    for role_id, permissions in roles:
        result |= permissions
        yield Step("role", role_id, permissions, NOTHING, result)
    if is_owner:
        yield Step("owner", user_id, EVERYTHING, NOTHING, EVERYTHING)
    elif result & ADMINISTRATOR:
        yield Step("administrator", GUILD, EVERYTHING, NOTHING, EVERYTHING)


def steps_in_channel(
    roles: Sequence[tuple[str, Permissions]],
    user_id: str,
    overrides: Mapping[str, Override],
    *,
    is_owner: bool,
    is_announcement: bool,
) -> Iterator[Step]:
    """How somebody's permissions in a channel come about. `overrides`: those that hold there, by role or user id."""
    result = NOTHING
    for step in steps_in_guild(roles, user_id, is_owner=is_owner):
        result = step.result
        yield step
    if is_owner or result & ADMINISTRATOR:
        return
    if is_announcement:
        result &= ~SEND_MESSAGES
        yield Step("announcement", GUILD, NOTHING, SEND_MESSAGES, result)
    for_everyone = overrides.get(EVERYONE)
    if for_everyone is not None:
        result = for_everyone.over(result)
        yield Step("override", EVERYONE, for_everyone.allow, for_everyone.deny, result)
    for_roles = [(role_id, overrides[role_id]) for role_id, _ in roles if role_id != EVERYONE and role_id in overrides]
    for role_id, override in for_roles:
        result &= ~override.deny
        yield Step("override", role_id, NOTHING, override.deny, result)
    for role_id, override in for_roles:
        result |= override.allow
        yield Step("override", role_id, override.allow, NOTHING, result)
    for_member = overrides.get(user_id)
    if for_member is not None:
        result = for_member.over(result)
        yield Step("override", user_id, for_member.allow, for_member.deny, result)
    if not result & VIEW_CHANNEL:
        yield Step("hidden", GUILD, NOTHING, EVERYTHING, NOTHING)


def outcome(steps: Iterable[Step]) -> Permissions:
    """What is left after the last of them."""
    result = NOTHING
    for step in steps:
        result = step.result
    return result

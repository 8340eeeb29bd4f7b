"""Who may act on whom: by permission, by rank, and never above oneself.

Each `check_` raises Forbidden naming what is missing; none of them looks at anything but the guild.
"""

from __future__ import annotations

from collections.abc import Collection

from homeserver.errors import Forbidden
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import Permissions, permission_names


def check_permission(guild: Guild, user_id: str, needed: Permissions, channel: Channel | None = None) -> None:
    """Raises Forbidden unless somebody holds all that is needed, in the guild or in a channel of it."""
    refuse_without(guild.permissions(user_id, channel), needed)


def refuse_without(held: Permissions, needed: Permissions) -> None:
    """Raises Forbidden naming what is needed and not among what is held."""
    missing = needed & ~held
    if missing:
        raise Forbidden(f"You need the permission {' and '.join(f'`{name}`' for name in permission_names(missing))}")


def check_above(guild: Guild, user_id: str, target: str) -> None:
    """Raises Forbidden unless somebody stands above somebody else. Nobody stands above the owner."""
    if guild.is_owner(target):
        raise Forbidden("Nobody may do that to the owner of the guild")
    if guild.rank(user_id) <= guild.rank(target):
        raise Forbidden(f"{target} does not stand below you")


def check_role(guild: Guild, user_id: str, role_id: str) -> None:
    """Raises Forbidden unless a role stands below somebody's highest: only then they may give, take and edit it."""
    if guild.rank(user_id) <= guild.height(role_id):
        raise Forbidden("That role does not stand below your own")


def check_roles(guild: Guild, user_id: str, before: Collection[str], after: Collection[str]) -> None:
    """The same for every role that somebody would have otherwise than before."""
    for role_id in sorted(set(before) ^ set(after)):
        check_role(guild, user_id, role_id)


def check_grant(guild: Guild, user_id: str, granted: Permissions, channel: Channel | None = None) -> None:
    """Raises Forbidden where somebody would grant or override what they lack themselves."""
    refuse_grant(guild.permissions(user_id, channel), granted)


def refuse_grant(held: Permissions, granted: Permissions) -> None:
    """Raises Forbidden naming what would be granted, or overridden, and is not held."""
    missing = granted & ~held
    if missing:
        names = ", ".join(f"`{name}`" for name in permission_names(missing))
        raise Forbidden(f"You can't give or take what you don't have: {names}")

"""`guilds/{guild_id}/roles`: making, changing, ordering and deleting roles.

Positions are 1…n from below, `admin` above all, `everyone` at 0; whatever is done keeps them so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import (
    API,
    MOST_ROLES,
    Color,
    Id,
    Maybe,
    Name,
    PermissionNames,
    check_count,
    read_permission_names,
)
from homeserver.guilds.create import new_id
from homeserver.guilds.editor import Edit
from homeserver.guilds.model import ADMIN, ROLE_TYPE, Guild, Role
from homeserver.guilds.permissions import EVERYONE, MANAGE_ROLES, permission_names
from homeserver.guilds.ranks import check_grant, check_permission, check_role
from homeserver.http.route import VISITOR, Requester, route

BUILT_IN = (EVERYONE, ADMIN)
NO_ROLE = "There is no such role in this guild"


class RoleAnswer(msgspec.Struct, frozen=True):
    role_id: str
    name: str
    color: str | None
    position: int
    """Higher ranks above lower; `everyone` has 0."""
    permissions: PermissionNames
    hoist: bool
    mentionable: bool


class RoleList(msgspec.Struct, frozen=True):
    roles: list[RoleAnswer]
    """Highest first."""


class RoleMade(msgspec.Struct, frozen=True):
    role_id: str


class InGuild(msgspec.Struct, frozen=True):
    guild_id: str


class CreateRole(msgspec.Struct, frozen=True):
    guild_id: str
    name: Name
    color: Color | None = None
    permissions: PermissionNames = []
    hoist: bool = False
    mentionable: bool = False


class ChangeRole(msgspec.Struct, frozen=True):
    guild_id: str
    role_id: str
    name: Name | Maybe = UNSET
    color: Color | Maybe | None = UNSET
    permissions: PermissionNames | Maybe = UNSET
    hoist: bool | Maybe = UNSET
    mentionable: bool | Maybe = UNSET


class OneRole(msgspec.Struct, frozen=True):
    guild_id: str
    role_id: str


class OrderRoles(msgspec.Struct, frozen=True):
    guild_id: str
    roles: list[Id]
    """Every role but `admin` and `everyone`, highest first."""


def role_answers(guild: Guild) -> list[RoleAnswer]:
    """A guild's roles, highest first."""
    in_order = guild.roles_in_order()
    return [
        RoleAnswer(
            role.role_id,
            role.name,
            role.color,
            len(in_order) - 1 - row,
            permission_names(role.permissions),
            role.hoist,
            role.mentionable,
        )
        for row, role in enumerate(in_order)
    ]


def require_role(guild: Guild, role_id: str) -> Role:
    """Raises NotFound."""
    role = guild.role(role_id)
    if role is None:
        raise NotFound(NO_ROLE)
    return role


@route("GET", f"{API}/guilds/{{guild_id}}/roles", auth=VISITOR, rate="read")
async def get_roles(desk: Desk, who: Requester, ask: InGuild) -> RoleList:
    """The guild's roles, highest first."""
    return RoleList(role_answers(await desk.guild(ask.guild_id, who.user_id)))


@route("POST", f"{API}/guilds/{{guild_id}}/roles", auth=VISITOR, rate="write")
async def create_role(desk: Desk, who: Requester, ask: CreateRole) -> RoleMade:
    """Make a role, just below its maker's highest. Needs `manage_roles`, and what the role is to permit."""
    permissions = read_permission_names(ask.permissions, "permissions")
    role_id = new_id()

    def work(edit: Edit) -> None:
        check_permission(edit.guild, who.user_id, MANAGE_ROLES)
        check_grant(edit.guild, who.user_id, permissions)
        order = custom_roles(edit.guild)
        check_count(len(order), MOST_ROLES, "roles")
        rank = edit.guild.rank(who.user_id)
        above = [one for one in order if edit.guild.height(one) >= rank]
        content: dict[str, Any] = {
            "name": ask.name,
            "permissions": permission_names(permissions),
            "position": max(1, len(order) - len(above) + 1),
            "hoist": ask.hoist,
            "mentionable": ask.mentionable,
        }
        if ask.color is not None:
            content["color"] = ask.color
        edit.change("role.create", ROLE_TYPE, role_id, content)
        number_roles(edit, [*above, role_id, *order[len(above) :]])

    await desk.edit(ask.guild_id, who.user_id, work)
    return RoleMade(role_id)


@route("PATCH", f"{API}/guilds/{{guild_id}}/roles/{{role_id}}", auth=VISITOR, rate="write")
async def change_role(desk: Desk, who: Requester, ask: ChangeRole) -> None:
    """Change a role that stands below one's own. Needs `manage_roles`, and every permission that is given or taken."""
    permissions = None if ask.permissions is UNSET else read_permission_names(ask.permissions, "permissions")

    def work(edit: Edit) -> None:
        role = require_role(edit.guild, ask.role_id)
        check_permission(edit.guild, who.user_id, MANAGE_ROLES)
        check_role(edit.guild, who.user_id, ask.role_id)
        content = {**_content(role), **edit.content(ROLE_TYPE, ask.role_id)}
        if permissions is not None and permissions != role.permissions:
            if role.role_id == ADMIN:
                raise InvalidParam("`permissions`: the role `admin` always permits everything")
            check_grant(edit.guild, who.user_id, permissions ^ role.permissions)
            content["permissions"] = permission_names(permissions)
        for name in ("name", "color", "hoist", "mentionable"):
            value = getattr(ask, name)
            if value is not UNSET:
                content[name] = value
        if content.get("color", "") is None:
            del content["color"]
        edit.change("role.update", ROLE_TYPE, ask.role_id, content)

    await desk.edit(ask.guild_id, who.user_id, work)


@route("DELETE", f"{API}/guilds/{{guild_id}}/roles/{{role_id}}", auth=VISITOR, rate="write")
async def delete_role(desk: Desk, who: Requester, ask: OneRole) -> None:
    """Delete a role that stands below one's own; nobody has it any more. Needs `manage_roles`."""

    def work(edit: Edit) -> None:
        require_role(edit.guild, ask.role_id)
        if ask.role_id in BUILT_IN:
            raise InvalidParam(f"`role_id`: the role `{ask.role_id}` is always there")
        check_permission(edit.guild, who.user_id, MANAGE_ROLES)
        check_role(edit.guild, who.user_id, ask.role_id)
        edit.change("role.delete", ROLE_TYPE, ask.role_id, {})
        number_roles(edit, custom_roles(edit.guild))

    await desk.edit(ask.guild_id, who.user_id, work)


@route("PUT", f"{API}/guilds/{{guild_id}}/roles/order", auth=VISITOR, rate="write")
async def order_roles(desk: Desk, who: Requester, ask: OrderRoles) -> None:
    """Put the roles in order, highest first. Needs `manage_roles`; roles at or above one's own stay in their places."""

    def work(edit: Edit) -> None:
        check_permission(edit.guild, who.user_id, MANAGE_ROLES)
        before = custom_roles(edit.guild)
        if len(ask.roles) != len(before) or set(ask.roles) != set(before):
            raise InvalidParam("`roles` must name each role of the guild once, but for `admin` and `everyone`")
        for was, is_now in zip(before, ask.roles, strict=True):
            if was != is_now:
                check_role(edit.guild, who.user_id, was)
                check_role(edit.guild, who.user_id, is_now)
        if number_roles(edit, ask.roles):
            edit.log("role.order", edit.guild.room_id, {"roles": before}, {"roles": ask.roles})

    await desk.edit(ask.guild_id, who.user_id, work)


def custom_roles(guild: Guild) -> list[str]:
    """The ids of all roles but those built in, highest first."""
    return [role.role_id for role in guild.roles_in_order() if role.role_id not in BUILT_IN]


def number_roles(edit: Edit, order: Sequence[str]) -> bool:
    """Let the roles stand in this order (highest first), `admin` above them. Only what moves is written."""
    moved = False
    for row, role_id in enumerate([ADMIN, *order]):
        content = edit.content(ROLE_TYPE, role_id)
        position = len(order) + 1 - row
        if content and content.get("position") != position:
            moved = edit.set(ROLE_TYPE, role_id, {**content, "position": position}) or moved
    return moved


def check_assignable(role_ids: Sequence[str]) -> None:
    """Raises Forbidden for what nobody can be given or lose."""
    if EVERYONE in role_ids:
        raise Forbidden("Every member has the role `everyone`; it can't be given or taken")


def _content(role: Role) -> dict[str, Any]:
    """What the event of a built-in role says, where there is none."""
    return {
        "name": role.name,
        "permissions": permission_names(role.permissions),
        "position": role.position,
        "hoist": role.hoist,
        "mentionable": role.mentionable,
    }

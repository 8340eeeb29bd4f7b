"""`guilds/{guild_id}/categories`: what holds channels together, and carries overrides for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from homeserver.errors import NotFound
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import API, MOST_CATEGORIES, Maybe, Name, PermissionNames, check_count
from homeserver.guilds.api.overrides import (
    OverrideBody,
    OverridesBody,
    RawOverrides,
    check_change,
    new_overrides,
    permissions_in_category,
    raw_overrides,
    read_override,
    with_override,
    without_override,
)
from homeserver.guilds.api.places import arrange_categories, arrange_channels, channels_in
from homeserver.guilds.create import new_id
from homeserver.guilds.editor import Edit
from homeserver.guilds.model import CATEGORY_TYPE, CHANNEL_TYPE, Category, Guild, read_overrides
from homeserver.guilds.permissions import MANAGE_CHANNELS
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import VISITOR, Requester, route

Change = Callable[[Edit, RawOverrides], RawOverrides]

ONE = f"{API}/guilds/{{guild_id}}/categories/{{category_id}}"


class CategoryAnswer(msgspec.Struct, frozen=True):
    category_id: str
    name: str
    overrides: dict[str, OverrideBody]


class CategoryMade(msgspec.Struct, frozen=True):
    category_id: str


class CreateCategory(msgspec.Struct, frozen=True):
    guild_id: str
    name: Name
    overrides: OverridesBody = {}


class ChangeCategory(msgspec.Struct, frozen=True):
    guild_id: str
    category_id: str
    name: Name | Maybe = UNSET


class OneCategory(msgspec.Struct, frozen=True):
    guild_id: str
    category_id: str


class CategoryOverride(msgspec.Struct, frozen=True):
    guild_id: str
    category_id: str
    target: str
    allow: PermissionNames = []
    deny: PermissionNames = []


class CategoryTarget(msgspec.Struct, frozen=True):
    guild_id: str
    category_id: str
    target: str


def require_category(guild: Guild, category_id: str) -> Category:
    """Raises NotFound."""
    category = guild.categories.get(category_id)
    if category is None:
        raise NotFound("There is no such category in this guild")
    return category


@route("POST", f"{API}/guilds/{{guild_id}}/categories", auth=VISITOR, rate="write")
async def create_category(desk: Desk, who: Requester, ask: CreateCategory) -> CategoryMade:
    """Make a category behind all others. Needs `manage_channels`, and `manage_roles` where it has overrides."""
    category_id = new_id()

    def work(edit: Edit) -> None:
        guild, actor = edit.guild, who.user_id
        check_permission(guild, actor, MANAGE_CHANNELS)
        check_count(len(guild.categories), MOST_CATEGORIES, "categories")
        content: dict[str, Any] = {"name": ask.name, "order": ""}
        if ask.overrides:
            content["overrides"] = new_overrides(edit, actor, guild.permissions(actor), ask.overrides)
        before = [category.category_id for category in guild.categories_in_order()]
        edit.change("category.create", CATEGORY_TYPE, category_id, content)
        arrange_categories(edit, [*before, category_id])

    await desk.edit(ask.guild_id, who.user_id, work)
    return CategoryMade(category_id)


@route("PATCH", ONE, auth=VISITOR, rate="write")
async def change_category(desk: Desk, who: Requester, ask: ChangeCategory) -> None:
    """Rename a category. Needs `manage_channels`. Its place is changed by `layout`."""

    def work(edit: Edit) -> None:
        require_category(edit.guild, ask.category_id)
        check_permission(edit.guild, who.user_id, MANAGE_CHANNELS)
        if ask.name is not UNSET:
            content = {**edit.content(CATEGORY_TYPE, ask.category_id), "name": ask.name}
            edit.change("category.update", CATEGORY_TYPE, ask.category_id, content)

    await desk.edit(ask.guild_id, who.user_id, work)


@route("DELETE", ONE, auth=VISITOR, rate="write")
async def delete_category(desk: Desk, who: Requester, ask: OneCategory) -> None:
    """Delete a category; its channels stay, with its overrides if they had none of their own. Needs `manage_channels`.

    They stand behind those that are in no category.
    """

    def work(edit: Edit) -> None:
        category = require_category(edit.guild, ask.category_id)
        check_permission(edit.guild, who.user_id, MANAGE_CHANNELS)
        orphans = channels_in(edit.guild, category.category_id)
        overrides = raw_overrides(edit.content(CATEGORY_TYPE, category.category_id).get("overrides"))
        for channel in orphans:
            if channel.overrides is None and overrides:
                content = {**edit.content(CHANNEL_TYPE, channel.room_id), "overrides": overrides}
                edit.change("channel.update", CHANNEL_TYPE, channel.room_id, content)
        free = [channel.room_id for channel in channels_in(edit.guild, None)]
        arrange_channels(edit, [*free, *(one.room_id for one in orphans)], None, desk.server_name)
        edit.change("category.delete", CATEGORY_TYPE, category.category_id, {})

    await desk.edit(ask.guild_id, who.user_id, work)


@route("PUT", f"{ONE}/overrides/{{target}}", auth=VISITOR, rate="write")
async def set_category_override(desk: Desk, who: Requester, ask: CategoryOverride) -> None:
    """Set what the category's channels allow and deny a role or member. Needs `manage_roles`, and what is changed."""
    override = read_override(OverrideBody(ask.allow, ask.deny))

    def change(edit: Edit, before: RawOverrides) -> RawOverrides:
        return with_override(edit, before, ask.target, override)

    await _change_overrides(desk, who.user_id, ask.guild_id, ask.category_id, change)


@route("DELETE", f"{ONE}/overrides/{{target}}", auth=VISITOR, rate="write")
async def delete_category_override(desk: Desk, who: Requester, ask: CategoryTarget) -> None:
    """Take an override away. Needs `manage_roles`, and what is changed by it."""

    def change(edit: Edit, before: RawOverrides) -> RawOverrides:
        return without_override(before, ask.target)

    await _change_overrides(desk, who.user_id, ask.guild_id, ask.category_id, change)


async def _change_overrides(desk: Desk, actor: str, guild_id: str, category_id: str, change: Change) -> None:
    def work(edit: Edit) -> None:
        category = require_category(edit.guild, category_id)
        content = edit.content(CATEGORY_TYPE, category_id)
        after = change(edit, raw_overrides(content.get("overrides")))
        may = permissions_in_category(edit.guild, actor, category)
        check_change(edit, actor, may, category.overrides, read_overrides(after) or {})
        edit.change("category.override", CATEGORY_TYPE, category_id, {**content, "overrides": after})

    await desk.edit(guild_id, actor, work)

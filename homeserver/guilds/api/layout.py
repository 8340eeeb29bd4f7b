"""`PUT guilds/{guild_id}/layout`: the order of all categories and channels, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from homeserver.errors import InvalidParam
from homeserver.guilds.api.channels import check_move
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import API, MOST_CATEGORIES, MOST_CHANNELS, Id
from homeserver.guilds.api.places import arrange_categories, arrange_channels, channels_in
from homeserver.guilds.editor import Edit
from homeserver.guilds.model import Guild
from homeserver.guilds.permissions import MANAGE_CHANNELS, VIEW_CHANNEL
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import VISITOR, Requester, route


class Group(msgspec.Struct, frozen=True):
    """A category with its channels; without an id, those of no category."""

    channels: Annotated[list[Id], Meta(max_length=MOST_CHANNELS)]
    category_id: Id | None = None


class SetLayout(msgspec.Struct, frozen=True):
    guild_id: str
    layout: Annotated[list[Group], Meta(max_length=MOST_CATEGORIES + 1)]
    """Names every category once, and every channel that the caller may view. Others stay where they are."""


@route("PUT", f"{API}/guilds/{{guild_id}}/layout", auth=VISITOR, rate="write")
async def set_layout(desk: Desk, who: Requester, ask: SetLayout) -> None:
    """Put categories and channels in order. Needs `manage_channels`; and `manage_roles` for what inherits otherwise."""

    def work(edit: Edit) -> None:
        actor = who.user_id
        check_permission(edit.guild, actor, MANAGE_CHANNELS)
        seen = [one for one in edit.guild.channels.values() if edit.guild.permissions(actor, one) & VIEW_CHANNEL]
        _check_complete(edit.guild, ask.layout, {channel.room_id for channel in seen})
        before = layout_of(edit.guild)
        for group in ask.layout:
            category = None if group.category_id is None else edit.guild.categories[group.category_id]
            for room_id in group.channels:
                channel = edit.guild.channels[room_id]
                if edit.guild.category_of(channel) != category:
                    check_permission(edit.guild, actor, MANAGE_CHANNELS, channel)
                    check_move(edit, actor, channel, {} if category is None else category.overrides)
        arrange_categories(edit, [group.category_id for group in ask.layout if group.category_id is not None])
        named = {room_id for group in ask.layout for room_id in group.channels}
        for group in ask.layout:
            hidden = [one.room_id for one in channels_in(edit.guild, group.category_id) if one.room_id not in named]
            arrange_channels(edit, [*group.channels, *hidden], group.category_id, desk.server_name)
        after = layout_of(edit.guild)
        if after != before:
            edit.log("guild.layout", ask.guild_id, {"layout": before}, {"layout": after})

    await desk.edit(ask.guild_id, who.user_id, work)


def layout_of(guild: Guild) -> list[dict[str, object]]:
    """How a guild's categories and channels stand now."""
    ids: list[str | None] = [None, *(category.category_id for category in guild.categories_in_order())]
    return [
        {"category_id": category_id, "channels": [channel.room_id for channel in channels_in(guild, category_id)]}
        for category_id in ids
    ]


def _check_complete(guild: Guild, layout: Sequence[Group], seen: set[str]) -> None:
    categories = [group.category_id for group in layout]
    named = {category_id for category_id in categories if category_id is not None}
    channels = [room_id for group in layout for room_id in group.channels]
    if len(set(categories)) < len(categories) or named != {*guild.categories}:
        raise InvalidParam("`layout` must name each category of the guild once")
    if len(set(channels)) < len(channels) or {*channels} != seen:
        raise InvalidParam("`layout` must name each channel of the guild once")

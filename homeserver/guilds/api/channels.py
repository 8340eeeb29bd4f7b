"""`guilds/{guild_id}/channels`: making, changing and deleting channels, and their overrides.

A channel's name, topic, picture and other settings are state of its own room; what it is in the guild is the guild's.
Both are changed in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from homeserver.errors import InvalidParam
from homeserver.guilds.api.categories import require_category
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import (
    API,
    MOST_CHANNELS,
    Id,
    Maybe,
    Mxc,
    Name,
    PermissionName,
    PermissionNames,
    Slowmode,
    Topic,
    check_count,
)
from homeserver.guilds.api.overrides import (
    OverrideBody,
    OverridesBody,
    RawOverrides,
    check_change,
    new_overrides,
    own_overrides,
    permissions_in_category,
    read_override,
    with_override,
    without_override,
)
from homeserver.guilds.api.places import place_last
from homeserver.guilds.closing import Closer
from homeserver.guilds.create import GuildMaker, topic_content
from homeserver.guilds.editor import Edit
from homeserver.guilds.model import (
    CHANNEL_TYPE,
    CHILD_TYPE,
    GUILD_TYPE,
    Channel,
    Guild,
    Overrides,
    read_overrides,
)
from homeserver.guilds.permissions import EDIT_CHANNEL, MANAGE_CHANNELS, VIEW_CHANNEL, Permissions
from homeserver.guilds.ranks import check_permission, refuse_without
from homeserver.guilds.templates import FirstChannel
from homeserver.http.route import VISITOR, Requester, route
from homeserver.rooms.membership import member_content
from homeserver.tasks import Tasks
from homeserver.userdata.profiles import Profiles

ONE = f"{API}/guilds/{{guild_id}}/channels/{{room_id}}"
MEGOLM = "m.megolm.v1.aes-sha2"

Kind = Literal["text", "voice", "announcement"]
Change = Callable[[Edit, Channel, Mapping[str, Any]], RawOverrides | None]
"""From a channel and the content of its event to its new overrides; None: it inherits those of its category."""


class ChannelAnswer(msgspec.Struct, frozen=True):
    room_id: str
    name: str | None
    topic: str | None
    kind: str
    category_id: str | None
    overrides: dict[str, OverrideBody] | None
    """None: it has those of its category."""
    slowmode_s: int
    joined: bool
    """Whether the caller is in the channel's room."""
    permissions: list[PermissionName]
    """The caller's, there."""


class ChannelMade(msgspec.Struct, frozen=True):
    room_id: str


class CreateChannel(msgspec.Struct, frozen=True):
    guild_id: str
    name: Name
    kind: Kind = "text"
    topic: Topic | None = None
    category_id: Id | None = None
    overrides: OverridesBody | None = None


class Retention(msgspec.Struct, frozen=True, omit_defaults=True):
    """`m.room.retention` (MSC1763), in ms."""

    max_lifetime: Annotated[int, Meta(ge=1)] | None = None
    min_lifetime: Annotated[int, Meta(ge=0)] | None = None


class ChangeChannel(msgspec.Struct, frozen=True):
    guild_id: str
    room_id: str
    name: Name | Maybe = UNSET
    topic: Topic | Maybe | None = UNSET
    avatar: Mxc | Maybe | None = UNSET
    slowmode_s: Slowmode | Maybe = UNSET
    category_id: Id | Maybe | None = UNSET
    retention: Retention | Maybe | None = UNSET
    encrypted: bool | Maybe = UNSET
    """Once it is, it stays so."""
    history_visibility: Literal["shared", "invited", "joined"] | Maybe = UNSET


class OneChannel(msgspec.Struct, frozen=True):
    guild_id: str
    room_id: str


class ChannelOverride(msgspec.Struct, frozen=True):
    guild_id: str
    room_id: str
    target: str
    allow: PermissionNames = []
    deny: PermissionNames = []


class ChannelTarget(msgspec.Struct, frozen=True):
    guild_id: str
    room_id: str
    target: str


@route("POST", f"{API}/guilds/{{guild_id}}/channels", auth=VISITOR, rate="room_creation")
async def create_channel(
    desk: Desk, maker: GuildMaker, profiles: Profiles, who: Requester, ask: CreateChannel
) -> ChannelMade:
    """Make a channel behind the others of its category. Needs `manage_channels`, and `manage_roles` for overrides."""
    is_ours = desk.is_ours(who.user_id)  # others' servers make their joins
    profile = await member_content(profiles, who.user_id, "join") if is_ours else {}

    def work(edit: Edit) -> str:
        guild, actor = edit.guild, who.user_id
        check_permission(guild, actor, MANAGE_CHANNELS)
        may = guild.permissions(actor)
        if ask.category_id is not None:
            may = permissions_in_category(guild, actor, require_category(guild, ask.category_id))
            refuse_without(may, VIEW_CHANNEL | MANAGE_CHANNELS)
        check_count(len(guild.channels), MOST_CHANNELS, "channels")
        content: dict[str, Any] = {"kind": ask.kind, "slowmode_s": 0}
        if ask.overrides is not None:
            content["overrides"] = new_overrides(edit, actor, may, ask.overrides)
        draft = maker.begin_channel(FirstChannel(ask.name, ask.kind, ask.topic))
        room_id = draft.room.room_id
        edit.change("channel.create", CHANNEL_TYPE, room_id, content)
        place_last(edit, room_id, ask.category_id, desk.server_name)
        channel = edit.guild.channels[room_id]
        maker.furnish(draft, edit.guild, channel)
        if is_ours and edit.guild.permissions(actor, channel) & VIEW_CHANNEL:
            maker.let_in(draft, actor, profile)
        edit.founded.append(draft)
        return room_id

    return ChannelMade(await desk.edit(ask.guild_id, who.user_id, work))


@route("PATCH", ONE, auth=VISITOR, rate="write")
async def change_channel(desk: Desk, who: Requester, ask: ChangeChannel) -> None:
    """Change a channel. Name, topic and avatar need `edit_channel`, all else `manage_channels`."""
    about = (ask.name, ask.topic, ask.avatar)
    managing = (ask.slowmode_s, ask.category_id, ask.retention, ask.encrypted, ask.history_visibility)

    def work(edit: Edit, channel: Channel) -> None:
        actor, room_id = who.user_id, ask.room_id
        if any(value is not UNSET for value in about) and not _may(edit.guild, actor, MANAGE_CHANNELS, channel):
            check_permission(edit.guild, actor, EDIT_CHANNEL, channel)
        if any(value is not UNSET for value in managing):
            check_permission(edit.guild, actor, MANAGE_CHANNELS, channel)
        if ask.slowmode_s is not UNSET:
            content = {**edit.content(CHANNEL_TYPE, room_id), "slowmode_s": ask.slowmode_s}
            edit.change("channel.update", CHANNEL_TYPE, room_id, content)
        if ask.category_id is not UNSET:
            move_channel(edit, actor, channel, ask.category_id, desk.server_name)
        for event_type, content in _room_state(ask):
            if event_type == "m.room.encryption" and not content:
                if edit.content_in(room_id, event_type):
                    raise InvalidParam("`encrypted`: what is encrypted can't be made readable for all again")
                continue
            edit.set_in(room_id, "channel.update", event_type, content)

    await desk.edit_channel(ask.guild_id, who.user_id, ask.room_id, work, with_room=True)


@route("DELETE", ONE, auth=VISITOR, rate="write")
async def delete_channel(desk: Desk, closer: Closer, tasks: Tasks, who: Requester, ask: OneChannel) -> None:
    """Delete a channel: everybody is put out of its room. Needs `manage_channels`."""

    def work(edit: Edit, channel: Channel) -> None:
        check_permission(edit.guild, who.user_id, MANAGE_CHANNELS, channel)
        take_channel_away(edit, channel)
        edit.also += closer.mark([channel.room_id])

    await desk.edit_channel(ask.guild_id, who.user_id, ask.room_id, work)
    tasks.spawn("guild.close", closer.close(ask.room_id))


@route("PUT", f"{ONE}/overrides/{{target}}", auth=VISITOR, rate="write")
async def set_channel_override(desk: Desk, who: Requester, ask: ChannelOverride) -> None:
    """Set what the channel allows and denies a role or member. Needs `manage_roles` there, and what is changed.

    The first one that a channel gets copies those of its category, which it does not look at any more.
    """
    override = read_override(OverrideBody(ask.allow, ask.deny))

    def change(edit: Edit, channel: Channel, content: Mapping[str, Any]) -> RawOverrides:
        return with_override(edit, own_overrides(edit, channel, content), ask.target, override)

    await _change_overrides(desk, who.user_id, ask.guild_id, ask.room_id, change)


@route("DELETE", f"{ONE}/overrides/{{target}}", auth=VISITOR, rate="write")
async def delete_channel_override(desk: Desk, who: Requester, ask: ChannelTarget) -> None:
    """Take an override away. Needs `manage_roles` there, and what is changed by it."""

    def change(edit: Edit, channel: Channel, content: Mapping[str, Any]) -> RawOverrides:
        return without_override(own_overrides(edit, channel, content), ask.target)

    await _change_overrides(desk, who.user_id, ask.guild_id, ask.room_id, change)


@route("DELETE", f"{ONE}/overrides", auth=VISITOR, rate="write")
async def inherit_overrides(desk: Desk, who: Requester, ask: OneChannel) -> None:
    """Let the channel have its category's overrides again. Needs `manage_roles` there, and what is changed by it."""

    def change(edit: Edit, channel: Channel, content: Mapping[str, Any]) -> RawOverrides | None:
        return None

    await _change_overrides(desk, who.user_id, ask.guild_id, ask.room_id, change)


def move_channel(edit: Edit, actor: str, channel: Channel, category_id: str | None, server_name: str) -> None:
    """Put a channel behind the others of a category, if it is not in it."""
    category = None if category_id is None else require_category(edit.guild, category_id)
    if category != edit.guild.category_of(channel):
        check_move(edit, actor, channel, {} if category is None else category.overrides)
        place_last(edit, channel.room_id, category_id, server_name)
        edit.log("channel.move", channel.room_id, None, {"category_id": category_id})


def check_move(edit: Edit, actor: str, channel: Channel, overrides: Overrides) -> None:
    """Raises Forbidden where a channel inherits other overrides in its new place, and the actor may not set those."""
    before = edit.guild.overrides_in(channel)
    if channel.overrides is None and before != overrides:
        check_change(edit, actor, edit.guild.permissions(actor, channel), before, overrides)


def take_channel_away(edit: Edit, channel: Channel) -> None:
    """Let the guild have the channel no more."""
    room_id = channel.room_id
    edit.change("channel.delete", CHANNEL_TYPE, room_id, {})
    edit.set(CHILD_TYPE, room_id, {})
    if edit.guild.settings.system_channel == room_id:
        settings = {key: value for key, value in edit.content(GUILD_TYPE).items() if key != "system_channel"}
        edit.set(GUILD_TYPE, "", settings)


def _may(guild: Guild, user_id: str, permission: Permissions, channel: Channel) -> bool:
    return bool(guild.permissions(user_id, channel) & permission)


def _room_state(ask: ChangeChannel) -> list[tuple[str, dict[str, Any]]]:
    """What of a change is state of the channel's own room."""
    found: list[tuple[str, dict[str, Any]]] = []
    if ask.name is not UNSET:
        found.append(("m.room.name", {"name": ask.name}))
    if ask.topic is not UNSET:
        found.append(("m.room.topic", topic_content(ask.topic or "")))
    if ask.avatar is not UNSET:
        found.append(("m.room.avatar", {} if ask.avatar is None else {"url": ask.avatar}))
    if ask.retention is not UNSET:
        content = {} if ask.retention is None else msgspec.to_builtins(ask.retention)
        found.append(("m.room.retention", content))
    if ask.encrypted is not UNSET:
        found.append(("m.room.encryption", {"algorithm": MEGOLM} if ask.encrypted else {}))
    if ask.history_visibility is not UNSET:
        found.append(("m.room.history_visibility", {"history_visibility": ask.history_visibility}))
    return found


async def _change_overrides(desk: Desk, actor: str, guild_id: str, room_id: str, change: Change) -> None:
    def work(edit: Edit, channel: Channel) -> None:
        content = edit.content(CHANNEL_TYPE, room_id)
        after = change(edit, channel, content)
        if after is None:
            category = edit.guild.category_of(channel)
            effective: Overrides = {} if category is None else category.overrides
        else:
            effective = read_overrides(after) or {}
        check_change(edit, actor, edit.guild.permissions(actor, channel), edit.guild.overrides_in(channel), effective)
        changed = {key: value for key, value in content.items() if key != "overrides"}
        if after is not None:
            changed["overrides"] = after
        edit.change("channel.override", CHANNEL_TYPE, room_id, changed)

    await desk.edit_channel(guild_id, actor, room_id, work)

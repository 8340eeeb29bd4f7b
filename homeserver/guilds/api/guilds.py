"""`guilds`: one's guilds, one of them whole, making, changing and deleting them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from federation.room.acl import ServerAcl
from homeserver.errors import Forbidden, InvalidParam
from homeserver.guilds.api.categories import CategoryAnswer
from homeserver.guilds.api.channels import ChannelAnswer
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import API, MOST_PATTERNS, Id, Maybe, Mxc, Name, PermissionName, Topic
from homeserver.guilds.api.overrides import override_answers
from homeserver.guilds.api.roles import InGuild, RoleAnswer, role_answers
from homeserver.guilds.closing import Closer
from homeserver.guilds.create import GuildMaker, NewGuild, topic_content
from homeserver.guilds.editor import Edit
from homeserver.guilds.model import ACL_TYPE, GUILD_TYPE, OPEN_TO_ALL, Channel, Guild
from homeserver.guilds.permissions import MANAGE_GUILD, VIEW_CHANNEL, permission_names
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import USER, VISITOR, Requester, route
from homeserver.rooms.live import LiveRoom
from homeserver.tasks import Tasks
from storage.database import Database
from storage.guild_invites import remove_all
from storage.memberships import rooms_of

ABOUT = ("m.room.name", "m.room.topic", "m.room.avatar")


class Acl(msgspec.Struct, frozen=True):
    """Which servers may take part in the guild's rooms: `m.room.server_acl`."""

    allow: Annotated[list[str], Meta(max_length=MOST_PATTERNS)] = msgspec.field(default_factory=lambda: ["*"])
    deny: Annotated[list[str], Meta(max_length=MOST_PATTERNS)] = []
    allow_ip_literals: bool = True


class SettingsAnswer(msgspec.Struct, frozen=True):
    discoverable: bool
    lazy: bool | None
    """None: from 1,000 members on."""
    policy: bool
    transcription: str | None
    system_channel: str | None
    server_acl: Acl | None


class GuildShort(msgspec.Struct, frozen=True):
    guild_id: str
    name: str | None
    topic: str | None
    icon: str | None
    owner: str
    member_count: int


class GuildList(msgspec.Struct, frozen=True):
    guilds: list[GuildShort]


class GuildAnswer(msgspec.Struct, frozen=True):
    guild_id: str
    name: str | None
    topic: str | None
    icon: str | None
    banner: str | None
    owner: str
    member_count: int
    roles: list[RoleAnswer]
    """Highest first."""
    categories: list[CategoryAnswer]
    channels: list[ChannelAnswer]
    """In order; those that the caller may view."""
    my_permissions: list[PermissionName]
    settings: SettingsAnswer


class GuildMade(msgspec.Struct, frozen=True):
    guild_id: str


class CreateGuild(msgspec.Struct, frozen=True):
    name: Name
    topic: Topic | None = None
    icon: Mxc | None = None
    banner: Mxc | None = None
    template: Literal["community", "team", "gaming"] | None = None


class ChangeGuild(msgspec.Struct, frozen=True):
    guild_id: str
    name: Name | Maybe = UNSET
    topic: Topic | Maybe | None = UNSET
    icon: Mxc | Maybe | None = UNSET
    banner: Mxc | Maybe | None = UNSET
    discoverable: bool | Maybe = UNSET
    lazy: bool | Maybe | None = UNSET
    policy: bool | Maybe = UNSET
    transcription: Literal["off", "request", "upload"] | Maybe | None = UNSET
    system_channel: Id | Maybe | None = UNSET
    server_acl: Acl | Maybe | None = UNSET


@route("GET", f"{API}/guilds", auth=USER, rate="read")
async def get_guilds(desk: Desk, database: Database, who: Requester) -> GuildList:
    """The guilds that the caller is in, by name."""
    found = []
    for membership in await database.run(rooms_of, who.user_id, ["join"]):
        room = await desk.rooms.get(membership.room_id)
        guild = None if room is None else await desk.book.find(room)
        if room is not None and guild is not None and room.membership_of(who.user_id) == "join":
            name, topic, icon = about(await _contents(desk, [room]), room)
            count = member_count(room)
            found.append(GuildShort(room.room_id, name, topic, icon, guild.settings.owner, count))
    found.sort(key=lambda guild: ((guild.name or "").casefold(), guild.guild_id))
    return GuildList(found)


@route("POST", f"{API}/guilds", auth=USER, rate="room_creation")
async def create_guild(maker: GuildMaker, who: Requester, ask: CreateGuild) -> GuildMade:
    """Make a guild, of which the caller is the owner."""
    new = NewGuild(ask.name, ask.topic, ask.icon, ask.banner, ask.template)
    return GuildMade(await maker.create(who.user_id, new))


@route("GET", f"{API}/guilds/{{guild_id}}", auth=VISITOR, rate="read")
async def get_guild(desk: Desk, who: Requester, ask: InGuild) -> GuildAnswer:
    """Everything about a guild but its members."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    viewed = [one for one in guild.channels_in_order() if guild.permissions(who.user_id, one) & VIEW_CHANNEL]
    rooms = {one.room_id: await desk.rooms.get(one.room_id) for one in viewed}
    contents = await _contents(desk, [room, *(one for one in rooms.values() if one is not None)])
    name, topic, icon = about(contents, room)
    settings, acl = guild.settings, guild.acl
    return GuildAnswer(
        guild_id=guild.room_id,
        name=name,
        topic=topic,
        icon=icon,
        banner=settings.banner,
        owner=settings.owner,
        member_count=member_count(room),
        roles=role_answers(guild),
        categories=[
            CategoryAnswer(one.category_id, one.name, override_answers(one.overrides) or {})
            for one in guild.categories_in_order()
        ],
        channels=[_channel_answer(guild, one, rooms[one.room_id], contents, who.user_id) for one in viewed],
        my_permissions=permission_names(guild.permissions(who.user_id)),
        settings=SettingsAnswer(
            settings.discoverable,
            settings.lazy,
            settings.policy,
            settings.transcription,
            settings.system_channel,
            None if acl is None else Acl(list(acl.allow), list(acl.deny), acl.allow_ip_literals),
        ),
    )


@route("PATCH", f"{API}/guilds/{{guild_id}}", auth=VISITOR, rate="write")
async def change_guild(desk: Desk, who: Requester, ask: ChangeGuild) -> None:
    """Change a guild. Needs `manage_guild`."""
    if isinstance(ask.server_acl, Acl) and not ServerAcl.parse(msgspec.to_builtins(ask.server_acl)).allows(
        desk.server_name
    ):
        raise InvalidParam("`server_acl` would shut out the guild's own server")

    if ask.policy is True and not desk.editor.policy:
        raise InvalidParam("`policy`: the guild's server is no policy server; see `federation.policy_key_path`")

    def work(edit: Edit) -> None:
        check_permission(edit.guild, who.user_id, MANAGE_GUILD)
        content = dict(edit.content(GUILD_TYPE))
        for name in ("banner", "discoverable", "lazy", "policy", "transcription", "system_channel"):
            value = getattr(ask, name)
            if value is not UNSET:
                content[name] = value
        if content.get("system_channel") is not None and ask.system_channel is not UNSET:
            channel = edit.guild.channels.get(content["system_channel"])
            if channel is None or not edit.guild.permissions(who.user_id, channel) & VIEW_CHANNEL:
                raise InvalidParam("`system_channel` is no channel of this guild")
        edit.change("guild.update", GUILD_TYPE, "", {key: value for key, value in content.items() if value is not None})
        if ask.name is not UNSET:
            edit.set_in(ask.guild_id, "guild.update", "m.room.name", {"name": ask.name})
        if ask.topic is not UNSET:
            edit.set_in(ask.guild_id, "guild.update", "m.room.topic", topic_content(ask.topic or ""))
        if ask.icon is not UNSET:
            icon = {} if ask.icon is None else {"url": ask.icon}
            edit.set_in(ask.guild_id, "guild.update", "m.room.avatar", icon)
        if ask.server_acl is not UNSET and not (ask.server_acl is None and edit.guild.acl is None):
            acl = OPEN_TO_ALL if ask.server_acl is None else msgspec.to_builtins(ask.server_acl)
            edit.change("guild.update", ACL_TYPE, "", acl)

    await desk.edit(ask.guild_id, who.user_id, work)


@route("DELETE", f"{API}/guilds/{{guild_id}}", auth=VISITOR, rate="write")
async def delete_guild(desk: Desk, closer: Closer, tasks: Tasks, who: Requester, ask: InGuild) -> None:
    """Delete a guild, as its owner: everybody is put out of it and its channels, and forgets them."""

    def work(edit: Edit) -> list[str]:
        if not edit.guild.is_owner(who.user_id):
            raise Forbidden("Only the owner may delete the guild")
        room_ids = sorted(edit.guild.channels)
        for name in ("discoverable", "owner"):
            content = {key: value for key, value in edit.content(GUILD_TYPE).items() if key != name}
            edit.set(GUILD_TYPE, "", content)
        edit.log("guild.delete", ask.guild_id)
        edit.also += [*closer.mark([ask.guild_id, *room_ids]), partial(remove_all, guild_id=ask.guild_id)]
        return room_ids

    room_ids = await desk.edit(ask.guild_id, who.user_id, work)
    await closer.close(ask.guild_id)
    tasks.spawn("guild.close", close_all(closer, room_ids))


async def close_all(closer: Closer, room_ids: Iterable[str]) -> None:
    for room_id in room_ids:
        await closer.close(room_id)


def member_count(room: LiveRoom) -> int:
    """Without the steward. 0 while it is not known who is in a room of another server's."""
    return max(0, (room.joined_count or 0) - (room.membership_of(room.create.sender) == "join"))


Contents = Mapping[int, Mapping[str, Any]]
"""By nid of the state event."""


def about(contents: Contents, room: LiveRoom) -> tuple[str | None, str | None, str | None]:
    """A room's name, topic and picture."""
    found: list[str | None] = []
    for event_type, name in zip(ABOUT, ("name", "topic", "url"), strict=True):
        ref = room.visible.state.get((event_type, ""))
        value = None if ref is None else contents.get(ref.nid, {}).get(name)
        found.append(value if isinstance(value, str) and value else None)
    return found[0], found[1], found[2]


async def read_about(desk: Desk, room: LiveRoom) -> tuple[str | None, str | None, str | None]:
    """The same, read."""
    return about(await _contents(desk, [room]), room)


async def _contents(desk: Desk, rooms: Iterable[LiveRoom]) -> Contents:
    refs = [room.visible.state.get((event_type, "")) for room in rooms for event_type in ABOUT]
    events = await desk.events.get_many([ref.nid for ref in refs if ref is not None])
    return {nid: stored.event.content for nid, stored in events.items()}


def _channel_answer(
    guild: Guild, channel: Channel, room: LiveRoom | None, contents: Contents, user_id: str
) -> ChannelAnswer:
    name, topic, _ = (None, None, None) if room is None else about(contents, room)
    category = guild.category_of(channel)
    return ChannelAnswer(
        channel.room_id,
        name,
        topic,
        channel.kind,
        None if category is None else category.category_id,
        override_answers(channel.overrides),
        channel.slowmode_s,
        room is not None and room.membership_of(user_id) == "join",
        permission_names(guild.permissions(user_id, channel)),
    )

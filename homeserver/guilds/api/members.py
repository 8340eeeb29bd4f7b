"""`guilds/{guild_id}/members`: who is in a guild, what they are called there, and which roles they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from homeserver.ephemeral.presence import PresenceBoard
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import (
    API,
    MOST_ROLES_OF_MEMBER,
    Id,
    Limit,
    Maybe,
    Nick,
    check_count,
    member_key,
)
from homeserver.guilds.api.roles import BUILT_IN, check_assignable, require_role
from homeserver.guilds.editor import Edit
from homeserver.guilds.model import MEMBER_TYPE, Guild
from homeserver.guilds.permissions import EVERYONE, MANAGE_NICKNAMES, MANAGE_ROLES
from homeserver.guilds.ranks import check_above, check_grant, check_permission, check_roles
from homeserver.http.route import VISITOR, Requester, route
from homeserver.rooms.live import LiveRoom

MOST_MEMBERS = 1_000
"""In one answer."""
AT_ONCE = 500
"""How many people's names are read together while somebody is looked for."""
STATUSES: Mapping[str, str] = {"online": "online", "unavailable": "away", "busy": "busy"}
"""Presence → status; whatever else it is, they are offline."""


class MemberAnswer(msgspec.Struct, frozen=True):
    user_id: str
    displayname: str | None
    nick: str | None
    avatar_url: str | None
    roles: list[str]
    """Ids, highest first; without `everyone`."""
    status: str


class MemberPage(msgspec.Struct, frozen=True, omit_defaults=True):
    members: list[MemberAnswer]
    next: str | None = None
    """Absent on the last page."""


class ListMembers(msgspec.Struct, frozen=True):
    guild_id: str
    limit: Limit = 100
    from_: str | None = msgspec.field(name="from", default=None)
    role: str | None = None
    """Only those who have it."""
    q: str | None = None
    """Only those in whose user id, name or nickname this occurs, whatever its case."""


class ChangeMember(msgspec.Struct, frozen=True):
    guild_id: str
    user_id: str
    nick: Nick | Maybe | None = UNSET
    roles: Annotated[list[Id], Meta(max_length=MOST_ROLES_OF_MEMBER)] | Maybe = UNSET


class RoleOfMember(msgspec.Struct, frozen=True):
    guild_id: str
    user_id: str
    role_id: str


@route(
    "GET",
    f"{API}/guilds/{{guild_id}}/members",
    auth=VISITOR,
    rate="read",
    query=("limit", "from", "role", "q"),
)
async def get_members(desk: Desk, presence: PresenceBoard, who: Requester, ask: ListMembers) -> MemberPage:
    """The guild's members, by user id."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    limit = min(ask.limit, MOST_MEMBERS)
    names = iter(_who_come_next(room, guild, ask, room.create.sender))
    found: list[MemberAnswer] = []
    wanted = None if ask.q is None else ask.q.casefold()
    while len(found) <= limit:
        some = list(islice(names, AT_ONCE if wanted else limit + 1 - len(found)))
        if not some:
            break
        refs = {user_id: room.visible.state.get(("m.room.member", user_id)) for user_id in some}
        events = await desk.events.get_many([ref.nid for ref in refs.values() if ref is not None])
        for user_id in some:
            ref = refs[user_id]
            content = events[ref.nid].event.content if ref is not None and ref.nid in events else {}
            answer = _answer(guild, user_id, content)
            if wanted is None or _matches(answer, wanted):
                found.append(answer)
    page = found[:limit]
    shown = [msgspec.structs.replace(one, status=STATUSES.get(presence.peek(one.user_id), "offline")) for one in page]
    return MemberPage(shown, page[-1].user_id if len(found) > limit else None)


@route("PATCH", f"{API}/guilds/{{guild_id}}/members/{{user_id}}", auth=VISITOR, rate="write")
async def change_member(desk: Desk, who: Requester, ask: ChangeMember) -> None:
    """Change somebody's nickname (one's own, or with `manage_nicknames`) or all of their roles (`manage_roles`)."""

    def work(edit: Edit) -> None:
        edit.require_member(ask.user_id)
        content = dict(edit.content(MEMBER_TYPE, member_key(ask.user_id)))
        if ask.nick is not UNSET:
            if ask.user_id != who.user_id:
                check_permission(edit.guild, who.user_id, MANAGE_NICKNAMES)
                check_above(edit.guild, who.user_id, ask.user_id)
            content.pop("nick", None)
            if ask.nick is not None:
                content["nick"] = ask.nick
        if ask.roles is not UNSET:
            for role_id in ask.roles:
                if edit.guild.role(role_id) is None or role_id == EVERYONE:
                    raise InvalidParam(f"`roles`: {role_id!r} is no role that can be given")
            content["roles"] = _checked(edit, who.user_id, ask.user_id, ask.roles)
        _write(edit, ask.user_id, content)

    await desk.edit(ask.guild_id, who.user_id, work)


@route("PUT", f"{API}/guilds/{{guild_id}}/members/{{user_id}}/roles/{{role_id}}", auth=VISITOR, rate="write")
async def give_role(desk: Desk, who: Requester, ask: RoleOfMember) -> None:
    """Give somebody a role that stands below one's own. Needs `manage_roles`, and what the role permits."""

    def work(edit: Edit) -> None:
        _require(edit, ask)
        roles = edit.guild.member(ask.user_id).roles
        _write_roles(edit, who.user_id, ask.user_id, [*roles, ask.role_id])

    await desk.edit(ask.guild_id, who.user_id, work)


@route("DELETE", f"{API}/guilds/{{guild_id}}/members/{{user_id}}/roles/{{role_id}}", auth=VISITOR, rate="write")
async def take_role(desk: Desk, who: Requester, ask: RoleOfMember) -> None:
    """Take a role that stands below one's own from somebody. Needs `manage_roles`."""

    def work(edit: Edit) -> None:
        _require(edit, ask)
        roles = edit.guild.member(ask.user_id).roles
        _write_roles(edit, who.user_id, ask.user_id, [one for one in roles if one != ask.role_id])

    await desk.edit(ask.guild_id, who.user_id, work)


def _require(edit: Edit, ask: RoleOfMember) -> None:
    require_role(edit.guild, ask.role_id)
    check_assignable([ask.role_id])
    edit.require_member(ask.user_id)


def _write_roles(edit: Edit, actor: str, user_id: str, roles: Sequence[str]) -> None:
    content = {**edit.content(MEMBER_TYPE, member_key(user_id)), "roles": _checked(edit, actor, user_id, roles)}
    _write(edit, user_id, content)


def _checked(edit: Edit, actor: str, user_id: str, roles: Sequence[str]) -> list[str]:
    """The roles as they are written, if the actor may change somebody's to these. What was deleted is dropped."""
    guild = edit.guild
    check_permission(guild, actor, MANAGE_ROLES)
    if guild.is_owner(user_id) and not guild.is_owner(actor):
        raise Forbidden("Nobody may do that to the owner of the guild")
    before = [role_id for role_id in guild.member(user_id).roles if guild.role(role_id) is not None]
    after = sorted({role_id for role_id in roles if guild.role(role_id) is not None})
    check_roles(guild, actor, before, after)
    for role_id in set(after) - set(before):
        role = guild.role(role_id)
        if role is not None:
            check_grant(guild, actor, role.permissions)
    check_count(len(after) - 1, MOST_ROLES_OF_MEMBER, "roles for one member")
    return after


def _write(edit: Edit, user_id: str, content: Mapping[str, Any]) -> None:
    kept = {name: value for name, value in content.items() if value not in (None, [])}
    before = edit.content(MEMBER_TYPE, member_key(user_id))
    if edit.set(MEMBER_TYPE, member_key(user_id), kept):
        edit.log("member.update", user_id, before, kept)


def _who_come_next(room: LiveRoom, guild: Guild, ask: ListMembers, steward: str) -> Sequence[str]:
    """Everybody who may be on the page and on those after it, by user id."""
    if ask.role is None or ask.role == EVERYONE:
        members: list[str] = [user_id for user_id, ref in room.members() if ref.membership == "join"]
    else:
        if ask.role not in BUILT_IN and guild.role(ask.role) is None:
            raise NotFound("There is no such role in this guild")
        holders = [people for roles, people in guild.holders.items() if ask.role in roles]
        members = [user_id for people in holders for user_id in people if room.membership_of(user_id) == "join"]
    after = ask.from_ or ""
    return sorted(user_id for user_id in members if user_id > after and user_id != steward)


def _answer(guild: Guild, user_id: str, content: Mapping[str, Any]) -> MemberAnswer:
    member = guild.member(user_id)
    roles = [role_id for role_id in member.roles if guild.role(role_id) is not None]
    roles.sort(key=lambda role_id: (-guild.height(role_id), role_id))
    displayname, avatar_url = content.get("displayname"), content.get("avatar_url")
    return MemberAnswer(
        user_id,
        displayname if isinstance(displayname, str) else None,
        member.nick,
        avatar_url if isinstance(avatar_url, str) else None,
        roles,
        "offline",
    )


def _matches(member: MemberAnswer, wanted: str) -> bool:
    return any(wanted in text.casefold() for text in (member.user_id, member.displayname, member.nick) if text)

"""`guilds/{guild_id}/invites` and `invites/{code}`: invitations by code."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from homeserver.errors import NotFound
from homeserver.guilds.abroad.errands import Errands
from homeserver.guilds.api.desk import Desk, require_channel
from homeserver.guilds.api.fields import API, Id
from homeserver.guilds.api.guilds import member_count, read_about
from homeserver.guilds.api.roles import InGuild
from homeserver.guilds.invites import NO_INVITE, Invites
from homeserver.guilds.permissions import CREATE_INVITE, MANAGE_GUILD
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import NONE, VISITOR, Requester, route
from homeserver.rooms.membership import Memberships
from storage.guild_invites import Invite

LONGEST_MS = 10 * 365 * 24 * 3600 * 1000


class InviteAnswer(msgspec.Struct, frozen=True):
    code: str
    room_id: str | None
    """The channel to be shown first."""
    user_id: str
    """Who made it."""
    created_ts: int
    uses: int
    max_uses: int | None
    expires_ts: int | None


class InviteList(msgspec.Struct, frozen=True):
    invites: list[InviteAnswer]


class InviteShown(msgspec.Struct, frozen=True):
    """What an invitation tells those who are not in the guild."""

    code: str
    guild_id: str
    name: str | None
    topic: str | None
    icon: str | None
    member_count: int
    expires_ts: int | None


class Joined(msgspec.Struct, frozen=True):
    guild_id: str
    room_id: str | None


class CreateInvite(msgspec.Struct, frozen=True):
    guild_id: str
    max_uses: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    lifetime_ms: Annotated[int, Meta(ge=1, le=LONGEST_MS)] | None = None
    room_id: Id | None = None


class InviteOfGuild(msgspec.Struct, frozen=True):
    guild_id: str
    code: str


class OneInvite(msgspec.Struct, frozen=True):
    code: str


@route("GET", f"{API}/guilds/{{guild_id}}/invites", auth=VISITOR, rate="read")
async def get_invites(desk: Desk, invites: Invites, who: Requester, ask: InGuild) -> InviteList:
    """The guild's invitations, newest first. Needs `manage_guild`."""
    check_permission(await desk.guild(ask.guild_id, who.user_id), who.user_id, MANAGE_GUILD)
    return InviteList([_answer(invite) for invite in await invites.of_guild(ask.guild_id)])


@route("POST", f"{API}/guilds/{{guild_id}}/invites", auth=VISITOR, rate="invite")
async def create_invite(desk: Desk, invites: Invites, who: Requester, ask: CreateInvite) -> InviteAnswer:
    """Make an invitation. Needs `create_invite`."""
    guild = await desk.guild(ask.guild_id, who.user_id)
    check_permission(guild, who.user_id, CREATE_INVITE)
    await desk.editor.require_own(ask.guild_id)
    if ask.room_id is not None:
        require_channel(guild, who.user_id, ask.room_id)
    return _answer(await invites.make(ask.guild_id, who.user_id, ask.room_id, ask.max_uses, ask.lifetime_ms))


@route("DELETE", f"{API}/guilds/{{guild_id}}/invites/{{code}}", auth=VISITOR, rate="write")
async def delete_invite(desk: Desk, invites: Invites, who: Requester, ask: InviteOfGuild) -> None:
    """Take an invitation back: one's own, or anybody's with `manage_guild`."""
    guild = await desk.guild(ask.guild_id, who.user_id)
    mine = [one for one in await invites.of_guild(ask.guild_id) if one.user_id == who.user_id]
    if ask.code not in {one.code for one in mine}:
        check_permission(guild, who.user_id, MANAGE_GUILD)
    await invites.remove(ask.guild_id, ask.code)


@route("GET", f"{API}/invites/{{code}}", auth=NONE, rate="anonymous")
async def get_invite(desk: Desk, invites: Invites, errands: Errands, ask: OneInvite) -> InviteShown:
    """What an invitation leads to. Whoever has the code may know. `CODE@server`: of another server."""
    code, _, server = ask.code.rpartition("@")
    if code and server != desk.server_name:
        shown = await errands.show(server, code, InviteShown)
        return msgspec.structs.replace(shown, code=ask.code)
    return await show_invite(desk, invites, code or ask.code)


async def show_invite(desk: Desk, invites: Invites, code: str) -> InviteShown:
    """What an invitation of this server leads to. Raises NotFound."""
    invite = await invites.require(code)
    room = await desk.rooms.get(invite.guild_id)
    if room is None:
        raise NotFound(NO_INVITE)
    name, topic, icon = await read_about(desk, room)
    return InviteShown(invite.code, invite.guild_id, name, topic, icon, member_count(room), invite.expires_ts)


@route("POST", f"{API}/invites/{{code}}/join", auth=VISITOR, rate="join_local")
async def join_by_invite(
    desk: Desk, invites: Invites, errands: Errands, memberships: Memberships, who: Requester, ask: OneInvite
) -> Joined:
    """Come into a guild by an invitation, and into every channel that one may view. `CODE@server`: of another server.

    Somebody of a server that knows no guilds is invited by it, as to any room.
    """
    code, _, server = ask.code.rpartition("@")
    if code and server != desk.server_name and desk.is_ours(who.user_id):
        guild_id = (await errands.show(server, code, InviteShown)).guild_id
        action = f"POST invites/{quote(code, safe='')}/join"
        answer = await errands.run(server, guild_id, who.user_id, action, {})
        await memberships.join(guild_id, who.user_id, via=[server])
        room_id = answer.get("room_id")
        return Joined(guild_id, room_id if isinstance(room_id, str) else None)
    invite = await invites.redeem(code or ask.code, who.user_id)
    return Joined(invite.guild_id, invite.room_id)


def _answer(invite: Invite) -> InviteAnswer:
    return InviteAnswer(
        invite.code,
        invite.room_id,
        invite.user_id,
        invite.created_ts,
        invite.uses,
        invite.max_uses,
        invite.expires_ts,
    )

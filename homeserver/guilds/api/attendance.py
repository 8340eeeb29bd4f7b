"""Coming into a guild and leaving it, putting others out, and handing it over: each over all of its rooms."""

from __future__ import annotations

import msgspec

from federation.room.identifiers import server_of
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.guilds.api.desk import NO_GUILD, Desk
from homeserver.guilds.api.fields import API, Id, Reason
from homeserver.guilds.api.roles import InGuild
from homeserver.guilds.attendance import Attendance
from homeserver.guilds.editor import Edit
from homeserver.guilds.permissions import BAN_MEMBERS
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import VISITOR, Requester, route
from homeserver.rooms.membership import Memberships, check_invitable

ONE = f"{API}/guilds/{{guild_id}}"


class Somebody(msgspec.Struct, frozen=True):
    guild_id: str
    user_id: str
    reason: Reason | None = None


class PutOut(Somebody, frozen=True):
    purge: bool = False


class NewOwner(msgspec.Struct, frozen=True):
    guild_id: str
    user_id: Id


class BanAnswer(msgspec.Struct, frozen=True):
    user_id: str
    reason: str | None
    ts: int


class BanList(msgspec.Struct, frozen=True):
    bans: list[BanAnswer]


@route("POST", f"{ONE}/join", auth=VISITOR, rate="join_local")
async def join_guild(
    attendance: Attendance, memberships: Memberships, desk: Desk, who: Requester, ask: InGuild
) -> None:
    """Come into a guild that is discoverable, or to which one is invited, and into every channel that one may view."""
    room = await desk.rooms.get(ask.guild_id)
    guild = None if room is None else await desk.book.find(room)
    membership = None if room is None else room.membership_of(who.user_id)
    if room is None or not room.local_joined:
        membership = await memberships.elsewhere.holds(ask.guild_id, who.user_id)
        if membership == "invite":
            await memberships.join(ask.guild_id, who.user_id)
            return
    if membership == "ban":
        raise Forbidden("You are banned from this guild")
    if guild is None or not (guild.settings.discoverable or membership in ("join", "invite")):
        raise NotFound(NO_GUILD)
    if room is not None and room.create.sender != desk.editor.steward and desk.is_ours(who.user_id):
        # Its channels follow by themselves.
        await memberships.join(ask.guild_id, who.user_id, via=[str(server_of(room.create.sender))])
        return
    await attendance.enter(ask.guild_id, who.user_id)


@route("POST", f"{ONE}/leave", auth=VISITOR, rate="write")
async def leave_guild(
    attendance: Attendance, memberships: Memberships, desk: Desk, who: Requester, ask: InGuild
) -> None:
    """Leave a guild and its channels. Its owner can't before handing it over."""
    room = await desk.rooms.get(ask.guild_id)
    if not desk.is_ours(who.user_id):
        raise Forbidden("Your own server lets you out")
    if room is None or not room.local_joined:
        if await memberships.elsewhere.holds(ask.guild_id, who.user_id) is None:
            raise NotFound(NO_GUILD)
        await memberships.leave(ask.guild_id, who.user_id)
        return
    if room.membership_of(who.user_id) not in ("join", "invite") or await desk.book.find(room) is None:
        raise NotFound(NO_GUILD)
    await attendance.leave(ask.guild_id, who.user_id)


@route("POST", f"{ONE}/members/{{user_id}}/kick", auth=VISITOR, rate="write")
async def kick_member(attendance: Attendance, desk: Desk, who: Requester, ask: PutOut) -> None:
    """Put somebody out of the guild and its channels. Needs `kick_members`, and to stand above them.

    With `purge`, and `manage_messages`, all that they said since they came is redacted.
    """
    await desk.guild(ask.guild_id, who.user_id)
    await attendance.kick(ask.guild_id, who.user_id, ask.user_id, ask.reason, purge=ask.purge)


@route("POST", f"{ONE}/members/{{user_id}}/ban", auth=VISITOR, rate="write")
async def ban_member(attendance: Attendance, desk: Desk, who: Requester, ask: PutOut) -> None:
    """Put somebody out, whether they are in or not, and don't let them in again. Needs `ban_members`, and to stand
    above them.

    With `purge`, and `manage_messages`, all that they said since they came is redacted.
    """
    await desk.guild(ask.guild_id, who.user_id)
    check_invitable(ask.user_id)
    await attendance.ban(ask.guild_id, who.user_id, ask.user_id, ask.reason, purge=ask.purge)


@route("POST", f"{ONE}/members/{{user_id}}/unban", auth=VISITOR, rate="write")
async def unban_member(attendance: Attendance, desk: Desk, who: Requester, ask: Somebody) -> None:
    """Let somebody in again. Needs `ban_members`."""
    guild = await desk.guild(ask.guild_id, who.user_id)
    check_permission(guild, who.user_id, BAN_MEMBERS)
    room = await desk.rooms.require(ask.guild_id)
    if room.membership_of(ask.user_id) != "ban":
        raise NotFound(f"{ask.user_id} is not banned from this guild")
    await attendance.unban(ask.guild_id, who.user_id, ask.user_id, ask.reason)


@route("GET", f"{ONE}/bans", auth=VISITOR, rate="read")
async def get_bans(desk: Desk, who: Requester, ask: InGuild) -> BanList:
    """Who is banned, newest first. Needs `ban_members`."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    check_permission(guild, who.user_id, BAN_MEMBERS)
    refs = {user_id: ref for user_id, ref in room.members() if ref.membership == "ban"}
    events = await desk.events.get_many([ref.nid for ref in refs.values()])
    found = []
    for user_id, ref in refs.items():
        event = events[ref.nid].event
        reason = event.content.get("reason")
        found.append(BanAnswer(user_id, reason if isinstance(reason, str) else None, event.origin_server_ts))
    return BanList(sorted(found, key=lambda ban: (-ban.ts, ban.user_id)))


@route("POST", f"{ONE}/owner", auth=VISITOR, rate="write")
async def hand_over(desk: Desk, who: Requester, ask: NewOwner) -> None:
    """Make another member the owner, as the owner."""

    def work(edit: Edit) -> None:
        if not edit.guild.is_owner(who.user_id):
            raise Forbidden("Only the owner may hand the guild over")
        edit.require_member(ask.user_id)
        if ask.user_id == desk.editor.steward:
            raise InvalidParam("`user_id`: the guild's own account can't be its owner")
        edit.hand_over(ask.user_id)

    await desk.edit(ask.guild_id, who.user_id, work)

"""Who is in a guild and its channels: coming, leaving and being put out are one operation over all of its rooms.

A guild of this server's steward moves in one commit, however many channels it has. In a guild that lives elsewhere this
server's people enter and leave the rooms one by one, as members of any room do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from federation.room.identifiers import server_of
from federation.room.purging import FLAG
from federation.service import service
from homeserver.errors import Forbidden, NotFound
from homeserver.guilds.book import GuildBook
from homeserver.guilds.editor import Edit, Editor
from homeserver.guilds.model import MEMBER_TYPE, Guild
from homeserver.guilds.permissions import BAN_MEMBERS, CREATE_INVITE, KICK_MEMBERS, MANAGE_MESSAGES, VIEW_CHANNEL
from homeserver.guilds.ranks import check_above, check_permission
from homeserver.guilds.steward import ON_BEHALF_OF
from homeserver.guilds.viewers import channels_for, is_lazy
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import AUTHORISER, INSIDE, MEMBER, Elsewhere, MemberProfiles, member_content
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms


@service
class Attendance:
    """Moves people in and out of the guilds of this server's steward."""

    steward: str
    door: Door
    rooms: Rooms
    book: GuildBook
    editor: Editor
    profiles: MemberProfiles
    elsewhere: Elsewhere

    async def enter(self, guild_id: str, user_id: str, *, is_invited: bool = False) -> None:
        """Somebody joins a guild and every channel that it may view. Joining twice is no error. Who lives elsewhere is
        invited, if shown to be, and brought in by its own server.

        `is_invited`: it was shown to be, by a code for example; otherwise the guild's own rules decide.
        """
        guild = await self.editor.require_own(guild_id)
        if server_of(user_id) != self.door.identity.server_name:
            await self._invite_from_afar(guild_id, user_id, is_invited=is_invited)
            return
        content = await member_content(self.profiles, user_id, "join")
        channels = [] if is_lazy(guild, await self.rooms.require(guild_id)) else channels_for(guild, user_id)
        room_ids = [guild_id, *(channel.room_id for channel in channels)]

        def work(drafts: Mapping[str, Draft]) -> tuple[None, Sequence[Deferred[None]]]:
            for room_id, draft in drafts.items():
                membership = membership_in(draft, user_id)
                if membership == "join":
                    continue
                if room_id != guild_id:
                    if membership != "ban":
                        draft.add(Template(MEMBER, user_id, {**content, AUTHORISER: self.steward}, user_id))
                    continue
                if is_invited and membership != "invite":
                    if membership == "ban":
                        raise Forbidden("You are banned from this guild")
                    draft.add(Template(MEMBER, self.steward, {**content, "membership": "invite"}, user_id))
                draft.add(Template(MEMBER, user_id, content, user_id))
            return None, [self.door.append(draft) for draft in drafts.values() if draft.new]

        await self.door.settle_together([room_id for room_id in room_ids if await self._is_here(room_id)], work)

    async def _invite_from_afar(self, guild_id: str, user_id: str, *, is_invited: bool) -> None:
        room = await self.rooms.require(guild_id)
        match room.membership_of(user_id):
            case "join" | "invite":
                return
            case "ban":
                raise Forbidden("You are banned from this guild")
        if not is_invited:
            raise Forbidden("Your own server has to let you in")
        content = await member_content(self.profiles, user_id, "invite")
        await self.elsewhere.invite(guild_id, Template(MEMBER, self.steward, content, user_id), lambda draft: None)

    async def leave(self, guild_id: str, user_id: str, reason: str | None = None) -> None:
        """A local user leaves a guild, wherever it lives, and all its channels. Raises Forbidden for the owner."""
        guild = await self.book.require(guild_id)
        content = {"membership": "leave", **({} if reason is None else {"reason": reason})}
        inside = [room_id for room_id in sorted(guild.channels) if await self._is_in(room_id, user_id)]

        def work(drafts: Mapping[str, Draft]) -> tuple[None, Sequence[Deferred[None]]]:
            if self.book.standing(drafts[guild_id]).is_owner(user_id):
                raise Forbidden("The owner can't leave the guild before handing it over")
            for draft in drafts.values():
                if membership_in(draft, user_id) in INSIDE:
                    draft.add(Template(MEMBER, user_id, content, user_id))
            return None, [self.door.append(draft) for draft in drafts.values() if draft.new]

        await self.door.settle_together([guild_id, *inside], work)

    async def kick(
        self, guild_id: str, actor: str, target: str, reason: str | None = None, *, purge: bool = False
    ) -> None:
        """Put somebody out of the guild and its channels.

        `purge`: with all that they said there, if the actor may delete others' messages.
        """

        def work(edit: Edit) -> None:
            check_inside(edit, actor)
            check_permission(edit.guild, actor, KICK_MEMBERS)
            edit.check_not_steward(target)
            check_above(edit.guild, actor, target)
            if edit.membership_of(target) not in INSIDE:
                raise NotFound(f"{target} is not in this guild")
            self._put_out(edit, "member.kick", target, "leave", reason, purge)

        await self.editor.edit(guild_id, actor, work)

    async def ban(
        self, guild_id: str, actor: str, target: str, reason: str | None = None, *, purge: bool = False
    ) -> None:
        """Put somebody out, if they are in, and don't let them in again. `purge`: as in `kick`."""

        def work(edit: Edit) -> None:
            check_inside(edit, actor)
            check_permission(edit.guild, actor, BAN_MEMBERS)
            edit.check_not_steward(target)
            check_above(edit.guild, actor, target)
            self._put_out(edit, "member.ban", target, "ban", reason, purge)

        await self.editor.edit(guild_id, actor, work)

    async def unban(self, guild_id: str, actor: str, target: str, reason: str | None = None) -> None:
        def work(edit: Edit) -> None:
            check_inside(edit, actor)
            check_permission(edit.guild, actor, BAN_MEMBERS)
            if edit.membership_of(target) != "ban":
                raise Forbidden(f"{target} is not banned from this guild")
            self._put_out(edit, "member.unban", target, "leave", reason)

        await self.editor.edit(guild_id, actor, work)

    async def invite(self, guild_id: str, room: LiveRoom, actor: str, target: str, reason: str | None = None) -> None:
        """Invite somebody to the guild, or a member who may view it to a channel."""
        guild = await self.editor.require_own(guild_id)
        if room.membership_of(actor) != "join":
            raise Forbidden(NOT_IN_ROOM)
        if room.room_id == guild_id:
            check_permission(guild, actor, CREATE_INVITE)
        elif not guild.permissions(target, guild.channels.get(room.room_id)) & VIEW_CHANNEL:
            raise Forbidden(f"{target} may not view this channel")
        more = {ON_BEHALF_OF: actor, **({} if reason is None else {"reason": reason})}
        content = await member_content(self.profiles, target, "invite", more)
        template = Template(MEMBER, self.steward, content, target)
        if server_of(target) == self.door.identity.server_name:
            await self.door.send(room.room_id, [template])
        else:
            await self.elsewhere.invite(room.room_id, template, lambda draft: None)

    async def departed(self, guild_id: str, user_id: str) -> None:
        """Somebody left the guild, by whatever server: their roles go, and so do they from the channels."""

        def work(edit: Edit) -> Guild:
            if edit.membership_of(user_id) != "join":  # and did not come back
                edit.set(MEMBER_TYPE, f"_{user_id}", {})
                if edit.guild.is_owner(user_id):
                    edit.hand_over(edit.highest())
            return edit.guild

        guild = await self.editor.edit(guild_id, self.steward, work)
        self.editor.reconciler.note(guild_id, guild, [user_id])
        await self.editor.reconciler.follow(guild_id)

    async def put_right(self, guild_id: str, people: Iterable[str]) -> None:
        """Look after those of some former members who are still in a channel: a crash kept that from being done."""
        guild = await self.book.require(guild_id)
        rooms = [room for room_id in guild.channels if (room := await self.rooms.get(room_id)) is not None]
        for user_id in people:
            if any(room.membership_of(user_id) in INSIDE for room in rooms):
                await self.departed(guild_id, user_id)

    def _put_out(
        self, edit: Edit, action: str, target: str, membership: str, reason: str | None, purge: bool = False
    ) -> None:
        content: dict[str, Any] = {"membership": membership, **({} if reason is None else {"reason": reason})}
        if purge and edit.guild.permissions(edit.actor) & MANAGE_MESSAGES:
            content[FLAG] = True  # the channels say it again: `homeserver.guilds.reconcile`
        edit.set(MEMBER_TYPE, f"_{target}", {})
        edit.send(Template(MEMBER, self.steward, {**content, **edit.signature}, target))
        edit.touched.add(target)
        edit.log(action, target, reason=reason)

    async def _is_here(self, room_id: str) -> bool:
        room = await self.rooms.get(room_id)
        return room is not None and room.create.sender == self.steward

    async def _is_in(self, room_id: str, user_id: str) -> bool:
        room = await self.rooms.get(room_id)
        # An invitation from a server that is in it, where this one is not, is a matter of that server's.
        return room is not None and bool(room.local_joined) and room.membership_of(user_id) in INSIDE


def check_inside(edit: Edit, user_id: str) -> None:
    """Raises Forbidden for who is not in the guild: what everybody there may do is not for those outside."""
    if edit.membership_of(user_id) != "join":
        raise Forbidden(NOT_IN_ROOM)


def membership_in(draft: Draft, user_id: str) -> str | None:
    ref = draft.standing.state.get((MEMBER, user_id))
    return None if ref is None else ref.membership

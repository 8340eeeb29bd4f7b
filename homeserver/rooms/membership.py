"""Who is in a room: joining, inviting, leaving, knocking, and being shown the door.

Every step is one member event through the one door; the room's own rules decide. What the rules can't see, such as
whether someone may be let into a restricted room, is found out here first.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-membership
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from attrs import field, frozen

from federation.room.identifiers import InvalidIdentifier, parse_room_id, parse_user_id, server_of
from federation.room.purging import FLAG
from federation.service import service
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.guests import is_open_to_guests
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms
from homeserver.rooms.vouching import UnableToAuthorise, UnableToGrant, Vouching
from homeserver.userdata.invite_filter import Anybody, Invitees
from storage import memberships as membership_rows
from storage.database import Database
from storage.ports import Cursor

MEMBER = "m.room.member"
AUTHORISER = "join_authorised_via_users_server"
INSIDE = ("join", "invite", "knock")
"""Memberships that are more than having been there."""

SERVERS_OWN = frozenset(
    {
        "membership",
        "reason",
        "displayname",
        "avatar_url",
        AUTHORISER,
        "third_party_invite",
        "third_party_signed",
    }
)
"""Members of a join's content that the server itself sets."""


Check = Callable[[Draft], None]
"""Looks at the room as it is when something is composed, and raises."""


class MemberProfiles(Protocol):
    """Where member events get names and pictures from."""

    async def displayname_and_avatar(self, user_id: str) -> tuple[str | None, str | None]: ...


async def member_content(
    profiles: MemberProfiles, user_id: str, membership: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of a member event, with the profile of the user whose membership it is."""
    content: dict[str, Any] = {"membership": membership}
    displayname, avatar_url = await profiles.displayname_and_avatar(user_id)
    if displayname is not None:
        content["displayname"] = displayname
    if avatar_url is not None:
        content["avatar_url"] = avatar_url
    if more:
        content.update(more)
    return content


Kind = Literal["join", "invite", "leave", "kick", "ban", "unban"]


@frozen
class Act:
    """What a client asks for about a membership."""

    kind: Kind
    room_id: str
    actor: str
    target: str
    reason: str | None = None
    via: Sequence[str] = ()
    purge: bool = False
    """Whether all that the target said is to go too (`federation.room.purging`)."""


class Warden(Protocol):
    """Stands at the doors of some rooms, and does there by ways of its own what is asked for (`homeserver.guilds`)."""

    async def takes(self, act: Act) -> bool:
        """Do it, or raise; False where the room is none of this warden's, and nothing was done."""


class Elsewhere(Protocol):
    """What other servers are needed for: `homeserver.rooms.remote.elsewhere`. Everything raises MatrixError."""

    async def holds(self, room_id: str, user_id: str) -> str | None:
        """The user's membership, `invite` or `knock`, where this server is not in the room and knows it by a peer."""

    async def join(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        """Join a room by a server that is in it."""

    async def enter(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        """`join` by this server's own doing, which is no request of the user's."""

    async def knock(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        """Knock at a room by a server that is in it."""

    async def leave(self, room_id: str, user_id: str, content: Mapping[str, Any]) -> bool:
        """Decline an invitation, or take back a knock, that `holds`; False if it does not hold any more."""

    async def forget(self, room_id: str, user_id: str) -> bool:
        """Forget what is over in a room that this server is not in. False if there is nothing of the kind."""

    def check_reachable(self, user_id: str) -> None:
        """Raises Forbidden for somebody of another server whom this one could never invite."""

    async def invite(self, room_id: str, template: Template, check: Check) -> str:
        """Invite somebody of another server to a room that this one is in. Gives the event's id."""


class NoElsewhere:
    """For a server that does not federate."""

    async def holds(self, room_id: str, user_id: str) -> str | None:
        return None

    async def join(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        raise NotFound("No room of that id is known here")

    async def enter(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        raise NotFound("No room of that id is known here")

    async def knock(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        raise NotFound("No room of that id is known here")

    async def leave(self, room_id: str, user_id: str, content: Mapping[str, Any]) -> bool:
        raise Forbidden(NOT_IN_ROOM)

    async def forget(self, room_id: str, user_id: str) -> bool:
        return False

    def check_reachable(self, user_id: str) -> None:
        raise _unreachable(user_id)

    async def invite(self, room_id: str, template: Template, check: Check) -> str:
        raise _unreachable(template.state_key or "")


def _unreachable(user_id: str) -> Forbidden:
    return Forbidden(f"This server does not federate, so {user_id} can't be reached")


def check_invitable(user_id: str) -> None:
    """Raises InvalidParam for what is no user id."""
    try:
        parse_user_id(user_id)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{user_id!r} is not a user id: {error}") from None


def check_member(user_id: str, content: Mapping[str, Any]) -> None:
    """What the rules leave open about a member event that a client words itself. Raises InvalidParam."""
    if content.get("membership") == "invite":
        check_invitable(user_id)
    else:
        _user(user_id)


@service
class Memberships:
    """What local users do about memberships. Each call answers when it is durable."""

    door: Door
    rooms: Rooms
    database: Database
    profiles: MemberProfiles
    vouching: Vouching
    elsewhere: Elsewhere
    invitees: Invitees = field(factory=Anybody)
    wardens: list[Warden] = field(factory=list)

    async def join(
        self, room_id: str, user_id: str, reason: str | None = None, *, third_party_signed: object = None,
        is_guest: bool = False, besides: Mapping[str, Any] | None = None, via: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Join a room, through one of the servers in `via` if this one is not in it. Joining twice is no error.

        Raises NotFound, Forbidden, and whatever another server says.

        COMPAT Complement, clients of Synapse: what is in `besides` and is none of the server's business goes into the
        member event, as it would if the client had sent that event itself.
        """
        if third_party_signed is not None:
            raise Forbidden("This server accepts no third-party invitations yet")
        _check_room_id(room_id)
        if await self._is_taken(Act("join", room_id, user_id, user_id, reason, via)):
            return
        more = {key: value for key, value in (besides or {}).items() if key not in SERVERS_OWN}
        more.update(_with_reason(reason))
        while True:
            room = await self.rooms.get(room_id)
            if room is None or await self._is_elsewhere(room, user_id):
                if is_guest:
                    raise Forbidden("Guests may only join rooms of this server", "M_GUEST_ACCESS_FORBIDDEN")
                content = await member_content(self.profiles, user_id, "join", more)
                await self.elsewhere.join(room_id, user_id, content, via)
                return
            if room.membership_of(user_id) == "join":
                return
            if room.partial is not None:
                # Whether the user is banned, say, is known to those who know everybody.
                if is_guest:
                    await self._check_guest(room)
                content = await member_content(self.profiles, user_id, "join", more)
                await self.elsewhere.join(room_id, user_id, content, via)
                return
            try:
                admission = await self._admission(room, user_id, is_guest)
            except (UnableToGrant, UnableToAuthorise) as unable:
                if room.servers.keys() <= {self.door.identity.server_name}:
                    if isinstance(unable, UnableToAuthorise):
                        raise Forbidden("You are in none of the rooms that let people into this one") from None
                    raise Forbidden(unable.error, unable.errcode) from None
                content = await member_content(self.profiles, user_id, "join", more)
                await self.elsewhere.join(room_id, user_id, content, via)
                return
            content = await member_content(self.profiles, user_id, "join", {**more, **admission})
            try:
                await self.door.send(room_id, [_member(user_id, user_id, content)], check=_not_in_room(user_id))
                return
            except _AlreadyJoining:
                # Another call of the same user's is on its way to disk: once this is written, it was, or it failed.
                await self.database.write(_nothing)

    async def prepare(
        self, room: LiveRoom, sender: str, target: str, content: Mapping[str, Any], is_guest: bool
    ) -> tuple[dict[str, Any], Check | None]:
        """A member event that a client words itself, as a piece of state: its content, and what must hold of the room
        when it is composed.

        It opens no door that is closed to the calls below. Raises InvalidParam, Forbidden.
        """
        check_member(target, content)
        wording = {key: value for key, value in content.items() if key != AUTHORISER}
        membership = wording.get("membership")
        if is_guest and (sender != target or membership not in ("join", "leave")):
            raise Forbidden("Guests may only join and leave", "M_GUEST_ACCESS_FORBIDDEN")
        if sender != target:
            if membership == "invite" and not self.is_invitation_afar(target, content):
                await self.invitees.check(sender, target)
            return wording, in_room(sender)
        before = room.membership_of(sender)
        if membership == "join":
            if before != "join":
                wording.update(await self._admission(room, sender, is_guest))
        elif membership == "leave" and before is None:
            raise Forbidden(NOT_IN_ROOM)
        return wording, None

    async def is_done_by_warden(
        self, room: LiveRoom, sender: str, target: str, content: Mapping[str, Any], is_guest: bool
    ) -> bool:
        """Whether what a client words as a piece of state was a warden's business, and is done as by the calls below.

        Raises InvalidParam, Forbidden.
        """
        check_member(target, content)
        kind = _kind_of(content.get("membership"), room.membership_of(target), is_own=sender == target)
        if kind is None or is_guest or not self.wardens:
            return False
        if kind == "invite" and not self.is_invitation_afar(target, content):
            await self.invitees.check(sender, target)
        reason = content.get("reason")
        reason = reason if isinstance(reason, str) else None
        act = Act(kind, room.room_id, sender, target, reason, purge=content.get(FLAG) is True)
        return await self._is_taken(act)

    def is_invitation_afar(self, target: str, content: Mapping[str, Any]) -> bool:
        """Whether a member event invites somebody of another server, which has a say in it: `Elsewhere.invite`."""
        return content.get("membership") == "invite" and server_of(target) != self.door.identity.server_name

    async def invite(
        self,
        room_id: str,
        sender: str,
        target: str,
        reason: str | None = None,
        *,
        besides: Mapping[str, Any] | None = None,
    ) -> None:
        """Invite somebody. `besides` goes into the member event: what the server itself has to say with it."""
        check_invitable(target)
        is_local = server_of(target) == self.door.identity.server_name
        if is_local:
            await self.invitees.check(sender, target)
        if await self._is_taken(Act("invite", room_id, sender, target, reason)):
            return
        content = await member_content(self.profiles, target, "invite", _with_reason(reason, besides))
        template = _member(sender, target, content)
        if is_local:
            await self.door.send(room_id, [template], check=in_room(sender))
        else:
            await self.elsewhere.invite(room_id, template, in_room(sender))

    async def leave(self, room_id: str, user_id: str, reason: str | None = None) -> None:
        """Leave, or decline an invitation, or take back a knock. Leaving twice is no error."""
        if await self._is_taken(Act("leave", room_id, user_id, user_id, reason)):
            return
        content = {"membership": "leave", **_with_reason(reason)}
        room = await self.rooms.get(room_id)
        if (room is None or not room.local_joined) and await self.elsewhere.holds(room_id, user_id) is not None:
            if await self.elsewhere.leave(room_id, user_id, content):
                return
            room = await self.rooms.get(room_id)
        membership = None if room is None else room.membership_of(user_id)
        if membership == "leave":
            return
        if membership not in INSIDE:
            raise Forbidden(NOT_IN_ROOM)
        await self.door.send(room_id, [_member(user_id, user_id, content)])

    async def kick(
        self,
        room_id: str,
        sender: str,
        target: str,
        reason: str | None = None,
        *,
        besides: Mapping[str, Any] | None = None,
    ) -> None:
        """Put somebody out. `besides` goes into the member event."""
        if await self._is_taken(_put_out("kick", room_id, sender, target, reason, besides)):
            return

        def check(draft: Draft) -> None:
            in_room(sender)(draft)
            draft.check_whole()
            if draft.membership_of(target) not in INSIDE:
                raise Forbidden(f"{target} is not in this room")

        content = {"membership": "leave", **_with_reason(reason, besides)}
        await self.door.send(room_id, [_member(sender, _user(target), content)], check=check)

    async def ban(
        self,
        room_id: str,
        sender: str,
        target: str,
        reason: str | None = None,
        *,
        besides: Mapping[str, Any] | None = None,
    ) -> None:
        """Put somebody out for good. `besides` goes into the member event."""
        if await self._is_taken(_put_out("ban", room_id, sender, target, reason, besides)):
            return
        content = {"membership": "ban", **_with_reason(reason, besides)}  # no place to show somebody's new name
        await self.door.send(room_id, [_member(sender, _user(target), content)], check=in_room(sender))

    async def unban(self, room_id: str, sender: str, target: str, reason: str | None = None) -> None:
        if await self._is_taken(Act("unban", room_id, sender, _user(target), reason)):
            return

        def check(draft: Draft) -> None:
            in_room(sender)(draft)
            draft.check_whole()
            if draft.membership_of(target) != "ban":
                raise Forbidden(f"{target} is not banned from this room")

        content = {"membership": "leave", **_with_reason(reason)}
        await self.door.send(room_id, [_member(sender, _user(target), content)], check=check)

    async def knock(self, room_id: str, user_id: str, reason: str | None = None, via: Sequence[str] = ()) -> None:
        """Ask to be let in, through one of the servers in `via` if this one is not in the room."""
        content = await member_content(self.profiles, user_id, "knock", _with_reason(reason))
        _check_room_id(room_id)
        room = await self.rooms.get(room_id)
        if room is None or room.partial is not None or await self._is_elsewhere(room, user_id):
            await self.elsewhere.knock(room_id, user_id, content, via)
            return
        await self.door.send(room_id, [_member(user_id, user_id, content)])

    async def forget(self, room_id: str, user_id: str) -> None:
        """Stop remembering a room that one has left: its history is closed to the user, also after a rejoin's end.

        Raises InvalidParam with `M_UNKNOWN` while the user is still in it.
        """
        room = await self.rooms.get(room_id)
        if (room is None or not room.local_joined) and await self.elsewhere.forget(room_id, user_id):
            return
        membership = None if room is None else room.membership_of(user_id)
        if room is None or membership is None:
            raise Forbidden(NOT_IN_ROOM)
        if membership not in ("leave", "ban"):
            raise InvalidParam("You are still in this room: leave it before you forget it", "M_UNKNOWN")
        await self.database.write(membership_rows.set_forgotten, room.nid, user_id)

    async def profile_changed(self, user_id: str, field: str) -> None:
        """Say the user's new name or picture in every room it is in, by repeating its membership.

        A listener of `homeserver.userdata.profiles`.
        """
        if field not in ("displayname", "avatar_url"):
            return
        content = await member_content(self.profiles, user_id, "join")
        for found in await self.database.run(membership_rows.rooms_of, user_id):
            room = await self.rooms.get(found.room_id)
            ref = None if room is None else room.visible.state.get((MEMBER, user_id))
            if ref is None or ref.membership != "join":
                continue
            current = await self.door.events.get(ref.nid)
            if current is not None and current.event.content == content:
                continue
            try:
                await self.door.send(found.room_id, [_member(user_id, user_id, content)], check=in_room(user_id))
            except MatrixError:
                continue  # kicked meanwhile, or the room lets nobody speak: the profile itself has changed

    async def leave_all(self, user_id: str) -> None:
        """Leave every room and decline every invitation: for accounts that end."""
        for found in await self.database.run(membership_rows.rooms_of, user_id):
            if found.membership in INSIDE:
                try:
                    await self.leave(found.room_id, user_id)
                except MatrixError:
                    continue

    async def _is_taken(self, act: Act) -> bool:
        for warden in self.wardens:
            if await warden.takes(act):
                return True
        return False

    async def _admission(self, room: LiveRoom, user_id: str, is_guest: bool) -> dict[str, str]:
        """What a join must carry beside the usual. Raises Forbidden where the rules would let in whom they should not,
        as they don't know about guests, nor what other rooms say.
        """
        if is_guest:
            await self._check_guest(room)
        authoriser = await self.vouching.authoriser(room, user_id)
        return {} if authoriser is None else {AUTHORISER: authoriser}

    async def _check_guest(self, room: LiveRoom) -> None:
        if not await is_open_to_guests(room, self.door.events):
            raise Forbidden("Guests may not join this room", "M_GUEST_ACCESS_FORBIDDEN")

    async def _is_elsewhere(self, room: LiveRoom, user_id: str) -> bool:
        """Whether this server is not in a room that it knows, and others are."""
        if room.local_joined:
            return False
        return bool(room.servers) or await self.elsewhere.holds(room.room_id, user_id) is not None


def _check_room_id(room_id: str) -> None:
    """No other server is asked for what can't be. Raises NotFound."""
    try:
        parse_room_id(room_id)
    except InvalidIdentifier:
        raise NotFound("No room of that id is known here") from None


class _AlreadyJoining(Exception):
    """The user is in the room as the writer has it, if not yet as readers see it."""


def _nothing(cursor: Cursor) -> None: ...


def _kind_of(membership: object, before: str | None, *, is_own: bool) -> Kind | None:
    """What setting a membership amounts to; None for a change of profile, and for what nobody stands at a door for."""
    match membership:
        case "join" if is_own and before != "join":
            return "join"
        case "leave" if is_own and before in ("join", "invite"):
            return "leave"
        case "leave" if not is_own:
            return "unban" if before == "ban" else "kick"
        case "invite" if not is_own:
            return "invite"
        case "ban" if not is_own:
            return "ban"
    return None


def _member(sender: str, target: str, content: dict[str, Any]) -> Template:
    return Template(MEMBER, sender, content, target)


def _put_out(
    kind: Kind, room_id: str, sender: str, target: str, reason: str | None, besides: Mapping[str, Any] | None
) -> Act:
    return Act(kind, room_id, sender, _user(target), reason, purge=(besides or {}).get(FLAG) is True)


def _with_reason(reason: str | None, besides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {**(besides or {}), **({} if reason is None else {"reason": reason})}


def _user(user_id: str) -> str:
    try:
        return parse_user_id(user_id)
    except InvalidIdentifier as error:
        raise InvalidParam(f"`user_id`: {error}") from None


def _not_in_room(user_id: str) -> Check:
    def check(draft: Draft) -> None:
        if draft.membership_of(user_id) == "join":
            raise _AlreadyJoining

    return check


def in_room(user_id: str) -> Check:
    """A check that refuses those who are not in the room before anything else is said of it."""

    def check(draft: Draft) -> None:
        if draft.membership_of(user_id) != "join":
            raise Forbidden(NOT_IN_ROOM)

    return check

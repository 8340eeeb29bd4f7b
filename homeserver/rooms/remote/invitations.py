"""Inviting people of other servers, and being invited by them: both servers sign the event.

Spec: https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson
import structlog

from federation.outbound.transport import PeerError, Refused
from federation.room.canonical import canonical_event
from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.room.parse import parse_pdu
from federation.room.signing import sign_event
from federation.room.versions import RoomVersion, get_room_version
from federation.service import service
from homeserver.errors import BadJson, Forbidden, InvalidParam, MatrixError, MissingParam, Unavailable
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.endorsing import may_have_policy
from homeserver.rooms.glimpse import Glimpses, believable, find_create, read_glimpse
from homeserver.rooms.membership import in_room
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.registry import Rooms
from homeserver.rooms.remote.outside import OutsideRooms
from homeserver.rooms.remote.peers import RemotePeers
from homeserver.rooms.serve.access import PeerAccess
from homeserver.userdata.invite_filter import Invitees

log = structlog.get_logger("homeserver.rooms.remote")


class _Proof(msgspec.Struct, frozen=True):
    display_name: str
    signed: dict[str, Any]


class _ProofContent(msgspec.Struct, frozen=True):
    membership: str
    third_party_invite: _Proof


class ThirdPartyInvite(msgspec.Struct, frozen=True):
    """An invitation as the invited user's server would have it: to be made by the one who invited an address."""

    type: str
    room_id: str
    sender: str
    state_key: str
    content: _ProofContent


@service
class Invitations:
    """Sends and receives them."""

    door: Door
    rooms: Rooms
    access: PeerAccess
    glimpses: Glimpses
    peers: RemotePeers
    gatherer: Gatherer
    receiver: Receiver
    outside: OutsideRooms
    invitees: Invitees

    # -- sending -----------------------------------------------------------------------------------------------

    async def send(self, room_id: str, template: Template, check: Callable[[Draft], None]) -> str:
        """Invite somebody of another server: ask that server to sign, then let the event into the room. Gives its id.

        Raises MatrixError: what the room or the other server has against it.
        """
        assert template.state_key is not None

        def compose(draft: Draft) -> Event:
            check(draft)
            return draft.add(template).event

        event = await self.door.with_draft(room_id, compose)
        room = await self.rooms.require(room_id)
        if may_have_policy(room):
            event = await self.receiver.endorser.endorse(room, event)
        shown = [one.raw for one in await self.glimpses.of(room, [template.sender])]
        server = server_of(template.state_key)
        try:
            raw = await self.peers.invite(server, room.version, room_id, event.event_id, event.raw, shown)
        except Refused as error:
            raise _passed_on(error) from None
        except PeerError as error:
            log.info("an invitation could not be sent", peer=server, why=error.why)
            raise Unavailable(f"{server} can't be reached") from None
        both = _with_signatures(room.version, event, raw, server)
        verdict = await self.receiver.take(self.door.identity.server_name, both)
        if verdict.outcome not in ("accepted", "known"):
            raise Forbidden(verdict.why)
        return both.event_id

    async def exchange(self, origin: str, room_id: str, given: ThirdPartyInvite) -> None:
        """Invite whoever proved to be the one whom an `m.room.third_party_invite` of one of our people meant.

        Spec: https://spec.matrix.org/v1.19/server-server-api/#third-party-invites
        """
        room = await self.access.room(origin, room_id)
        if given.type != "m.room.member" or given.content.membership != "invite" or given.room_id != room_id:
            raise InvalidParam("Not an invitation to this room")
        target = given.content.third_party_invite.signed.get("mxid")
        if target != given.state_key or server_of(_user(given.state_key)) != origin:
            raise Forbidden("Who is invited is not one of your server's people")
        if given.sender not in room.local_joined:
            raise Forbidden("Who invited is not in the room")
        proof = {
            "display_name": given.content.third_party_invite.display_name,
            "signed": given.content.third_party_invite.signed,
        }
        content = {"membership": "invite", "third_party_invite": proof}
        await self.send(
            room_id, Template("m.room.member", given.sender, content, given.state_key), in_room(given.sender)
        )

    # -- receiving ---------------------------------------------------------------------------------------------

    async def receive(
        self, origin: str, room_id: str, event_id: str, room_version: str, raw: bytes, shown: Sequence[bytes]
    ) -> Event:
        """Be invited by another server: the event with our signature.

        Raises MatrixError: `M_INCOMPATIBLE_ROOM_VERSION`, or what is wrong with the event or what is shown.
        """
        version = get_room_version(room_version)
        if version is None:
            raise MatrixError(
                400,
                "M_INCOMPATIBLE_ROOM_VERSION",
                "This server does not know the version of that room",
                {"room_version": room_version},
            )
        event = self._read(origin, version, room_id, event_id, raw)
        room = await self.rooms.get(room_id)
        if room is not None and room.local_joined and not await self.access.is_allowed(origin, room):
            raise Forbidden("Your server is not allowed in this room")
        create, shown = await self._check_shown(version, room_id, shown)
        checked = (await self.gatherer.check(version, [event.raw]))[0]
        if isinstance(checked, str):
            raise InvalidParam(checked)
        await self.invitees.check(event.sender, event.state_key or "")
        identity = self.door.identity
        fields = sign_event(version, checked.to_json(), identity.server_name, identity.key)
        signed = parse_pdu(version, canonical_event(version, fields))
        if room is None or not room.local_joined:
            await self.outside.record(version, signed, read_glimpse(shown), create)
        return signed

    def _read(self, origin: str, version: RoomVersion, room_id: str, event_id: str, raw: bytes) -> Event:
        try:
            event = parse_pdu(version, raw)
        except BadEvent as error:
            raise BadJson(f"Not an event of room version {version}: {error}") from None
        if event.type != "m.room.member" or event.content.get("membership") != "invite":
            raise InvalidParam("Not an invitation")
        if event.room_id != room_id or event.event_id != event_id:
            raise InvalidParam("The event is another one than the path says")
        if server_of(event.sender) != origin:
            raise InvalidParam("The event is not by one of your server's people")
        if (event.state_key or "").partition(":")[2] != self.door.identity.server_name:
            raise InvalidParam("Who is invited is not on this server")
        return event

    async def _check_shown(
        self, version: RoomVersion, room_id: str, shown: Sequence[bytes]
    ) -> tuple[Event | None, Sequence[bytes]]:
        """The room's create event, which must be there whole where the room's id depends on it; and what may be
        believed of the rest.

        Before room version 12 servers still show a reduced one, or none: that is let pass.
        """
        if version.room_id_is_hash:
            if find_create(version, room_id, shown) is None:
                raise MissingParam("`invite_room_state` lacks the room's `m.room.create` event")
            for raw in shown:
                try:
                    is_of_room = parse_pdu(version, raw).room_id == room_id
                except BadEvent as error:
                    raise InvalidParam(f"`invite_room_state` has something that is no event: {error}") from None
                if not is_of_room:
                    raise InvalidParam("`invite_room_state` has an event of another room")
        good = await believable(self.gatherer, version, room_id, shown)
        create = find_create(version, room_id, good)
        if create is None and version.room_id_is_hash:
            raise InvalidParam("The `m.room.create` event in `invite_room_state` is not validly signed")
        if create is not None and not version.room_id_is_hash:
            checked = (await self.gatherer.check(version, [create.raw]))[0]
            create = checked if isinstance(checked, Event) else None
        return create, good


def _user(user_id: str) -> str:
    try:
        return parse_user_id(user_id)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{user_id!r} is not a user id: {error}") from None


def _with_signatures(version: RoomVersion, event: Event, raw: bytes, server: str) -> Event:
    """Our event with that server's signatures: whatever else is in what came back does not count."""
    fields: dict[str, Any] = event.to_json()
    try:
        answered = parse_pdu(version, raw)
        theirs = orjson.loads(answered.raw)["signatures"].get(server)
    except (BadEvent, ValueError):
        answered, theirs = None, None
    if answered is None or answered.event_id != event.event_id or not isinstance(theirs, dict):
        raise MatrixError(502, "M_UNKNOWN", f"{server} did not sign the invitation")
    fields["signatures"] = {**fields["signatures"], server: theirs}
    return parse_pdu(version, canonical_event(version, fields))


def _passed_on(error: Refused) -> MatrixError:
    """The other server's refusal as our client is told it."""
    if error.errcode in ("M_MISSING_PARAM", "M_INVALID_PARAM", "M_BAD_JSON", "M_NOT_JSON"):
        return MatrixError(502, "M_UNKNOWN", f"The other server did not understand the invitation: {error.error}")
    if error.status in (400, 403) and error.errcode:
        return MatrixError(error.status, error.errcode, error.error or "The other server refused")
    return MatrixError(502, "M_UNKNOWN", f"The other server failed: {error.status} {error.error}")

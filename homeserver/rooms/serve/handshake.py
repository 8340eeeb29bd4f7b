"""Joining, leaving and knocking through this server, for people of servers that are not in the room.

    make_…   a member event as it would have to be, without hashes and signatures
    send_…   the same, signed by its server: it enters the room by this server's door, and the rest of the room is told

Spec: https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson

from federation.room.auth import Refused, auth_types_for, check_auth
from federation.room.canonical import canonical_event
from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.hashing import encode_base64, reference_hash
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.room.parse import parse_pdu
from federation.room.signing import sign_event
from federation.service import service
from homeserver.clock import Clock
from homeserver.errors import BadJson, Forbidden, InvalidParam, MatrixError
from homeserver.rooms.compose import MAX_PREV_EVENTS, Identity
from homeserver.rooms.events import EventCache
from homeserver.rooms.glimpse import Glimpses
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.remote.delivery import Delivery
from homeserver.rooms.serve.access import PeerAccess
from homeserver.rooms.serve.graph import pdus
from homeserver.rooms.serve.handover import read_handover
from homeserver.rooms.vouching import Vouching
from storage.database import Database

Membership = Literal["join", "leave", "knock"]


@service
class Handshake:
    """Lets other servers' people in and out."""

    identity: Identity
    clock: Clock
    database: Database
    events: EventCache
    glimpses: Glimpses
    access: PeerAccess
    vouching: Vouching
    known: KnownEvents
    gatherer: Gatherer
    receiver: Receiver
    delivery: Delivery

    async def make(
        self, origin: str, membership: Membership, room_id: str, user_id: str, versions: Sequence[str] | None
    ) -> dict[str, Any]:
        """The template of a member event. `versions`: those that the peer knows; None where it was not asked."""
        _check_user(origin, user_id)
        room = await self.access.whole(origin, room_id)
        if versions is not None and room.version.identifier not in versions:
            raise MatrixError(
                400,
                "M_INCOMPATIBLE_ROOM_VERSION",
                "Your server does not know the version of this room",
                {"room_version": room.version.identifier},
            )
        content: dict[str, Any] = {"membership": membership}
        if membership == "join":
            authoriser = await self.vouching.authoriser(room, user_id)
            if authoriser is not None:
                content["join_authorised_via_users_server"] = authoriser
        event = await self._outline(room, user_id, content)
        return {"event": event, "room_version": room.version.identifier}

    async def send_join(
        self, origin: str, room_id: str, event_id: str, raw: bytes, *, omit_members: bool = False
    ) -> dict[str, Any]:
        """Take a join, and hand over the room."""
        _, event = await self._enter(origin, "join", room_id, event_id, raw)
        handover = await self.database.run(read_handover, event.event_id, omit_members)
        return {
            "origin": self.identity.server_name,
            "members_omitted": handover.members_omitted,
            "servers_in_room": handover.servers,
            "event": orjson.Fragment(event.raw),
            "state": pdus(stored.event for stored in handover.state),
            "auth_chain": pdus(stored.event for stored in handover.auth_chain),
        }

    async def send_leave(self, origin: str, room_id: str, event_id: str, raw: bytes) -> None:
        """Take the end of a membership, an invitation or a knock."""
        await self._enter(origin, "leave", room_id, event_id, raw)

    async def send_knock(self, origin: str, room_id: str, event_id: str, raw: bytes) -> dict[str, Any]:
        """Take a knock, and tell a little about the room."""
        room, _ = await self._enter(origin, "knock", room_id, event_id, raw)
        return {"knock_room_state": pdus(await self.glimpses.of(room))}

    # ----------------------------------------------------------------------------------------------------------

    async def _outline(self, room: LiveRoom, user_id: str, content: dict[str, Any]) -> dict[str, Any]:
        """A member event of the user on the room as it stands. Raises Forbidden where the room does not allow it."""
        head, current = room.visible.head, room.visible.state
        wanted = auth_types_for(room.version, type="m.room.member", sender=user_id, state_key=user_id, content=content)
        refs = {key: ref for key in wanted if (ref := current.get(key)) is not None}
        found = await self.events.get_many([ref.nid for ref in refs.values()])
        prev_events = head.extremities[-MAX_PREV_EVENTS:]
        auth_events = [ref.event_id for ref in refs.values()]
        event = Event(
            event_id="",
            room_id=room.room_id,
            type="m.room.member",
            state_key=user_id,
            sender=user_id,
            origin_server_ts=self.clock.now_ms(),
            depth=head.depth + 1,
            prev_events=prev_events,
            auth_events=tuple(auth_events),
            redacts=None,
            raw=b"",
            parsed_content=content,
        )
        lookup = {key: found[ref.nid].event for key, ref in refs.items() if ref.nid in found}
        lookup["m.room.create", ""] = room.create
        verdict = check_auth(room.version, event, lambda event_type, key: lookup.get((event_type, key)))
        if isinstance(verdict, Refused):
            raise Forbidden(verdict.why)
        fields: dict[str, Any] = {
            "auth_events": auth_events,
            "prev_events": list(prev_events),
            "content": content,
            "depth": event.depth,
            "origin": self.identity.server_name,
            "origin_server_ts": event.origin_server_ts,
            "room_id": room.room_id,
            "sender": user_id,
            "state_key": user_id,
            "type": event.type,
        }
        if room.version.cites_with_hashes:
            hashes = await self._hashes(room, [*auth_events, *prev_events])
            for name in ("auth_events", "prev_events"):
                fields[name] = [(event_id, {"sha256": hashes[event_id]}) for event_id in fields[name]]
        return fields

    async def _hashes(self, room: LiveRoom, event_ids: Sequence[str]) -> dict[str, str]:
        known = await self.known.find(room, event_ids)
        return {
            event_id: encode_base64(reference_hash(room.version, stored.event.to_json()))
            for event_id, stored in known.items()
        }

    async def _enter(
        self, origin: str, membership: Membership, room_id: str, event_id: str, raw: bytes
    ) -> tuple[LiveRoom, Event]:
        room = await self.access.whole(origin, room_id)
        try:
            event = parse_pdu(room.version, raw)
        except BadEvent as error:
            raise BadJson(f"Not an event of room version {room.version}: {error}") from None
        _check_member(origin, membership, room_id, event_id, event)
        if membership == "join":
            event = await self._countersign(room, event)
        checked = (await self.gatherer.check(room.version, [event.raw]))[0]
        if isinstance(checked, str):
            raise InvalidParam(checked)
        self.delivery.hand_in(event_id, origin)
        try:
            verdict = await self.receiver.take(origin, checked)
        finally:
            self.delivery.settle(event_id)
        is_in = verdict.outcome == "accepted"
        if verdict.outcome == "known":  # by another way, and maybe for what it is
            stored = (await self.known.find(room, [event_id])).get(event_id)
            is_in = stored is not None and not (stored.rejected or stored.soft_failed)
        if not is_in:
            raise Forbidden(verdict.why or "The room does not allow this")
        return room, checked

    async def _countersign(self, room: LiveRoom, event: Event) -> Event:
        """Vouch with our signature for whom a restricted room lets in by one of our people."""
        authoriser = event.content.get("join_authorised_via_users_server")
        if not room.version.restricted or authoriser is None:
            return event
        try:
            if server_of(parse_user_id(authoriser)) != self.identity.server_name:
                return event  # then that server's signature must be there
        except InvalidIdentifier:
            raise InvalidParam("`join_authorised_via_users_server` is not a user id") from None
        if authoriser not in room.local_joined:
            raise Forbidden("Who is to vouch for this join is not in the room")
        await self.vouching.authoriser(room, event.sender)
        fields = sign_event(room.version, event.to_json(), self.identity.server_name, self.identity.key)
        return parse_pdu(room.version, canonical_event(room.version, fields))


def _check_user(origin: str, user_id: str) -> None:
    try:
        parse_user_id(user_id)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{user_id!r} is not a user id: {error}") from None
    if server_of(user_id) != origin:
        raise Forbidden(f"{user_id} is not one of your server's people")


def _check_member(origin: str, membership: Membership, room_id: str, event_id: str, event: Event) -> None:
    """Raises InvalidParam unless this is the member event that its way of coming here says."""
    if event.type != "m.room.member" or event.content.get("membership") != membership:
        raise InvalidParam(f"Not an `m.room.member` event of the membership `{membership}`")
    if event.room_id != room_id:
        raise InvalidParam("The event is of another room")
    if event.event_id != event_id:
        raise InvalidParam("The event has another id than the path says")
    if event.state_key != event.sender:
        raise InvalidParam("`state_key` is not the sender")
    if server_of(event.sender) != origin:
        raise InvalidParam("The event is not by one of your server's people")

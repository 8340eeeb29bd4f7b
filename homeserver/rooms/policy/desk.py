"""This server as a policy server: it looks at events of rooms that chose it, and signs those that may be.

Spec: https://spec.matrix.org/v1.19/server-server-api/#policy-servers
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from attrs import field

from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.hashing import encode_base64
from federation.room.parse import content_hash_matches, parse_pdu
from federation.room.policy import KEY_ID, POLICY, is_exempt, read_policy
from federation.room.signing import SigningKey, sign_event, signature_of
from federation.service import service
from homeserver.errors import BadJson, MatrixError, NotFound
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.serve.access import PeerAccess


class Rule(Protocol):
    """One opinion on what belongs into a room. It must not change anything: an event may be asked about and never come,
    and may be asked about again.
    """

    async def __call__(self, room: LiveRoom, origin: str, event: Event) -> str | None:
        """Why the event is not wanted, in words for whoever sent it; None where there is nothing against it.

        Form, signatures and content hash have been checked. `origin`: the server that asks, not always the sender's.
        """


class _RoomOnly(msgspec.Struct, gc=False):
    room_id: str


_decode_room = msgspec.json.Decoder(_RoomOnly).decode


@service
class Desk:
    """Signs, or says why not."""

    server_name: str
    key: SigningKey | None
    """None: this server is no policy server."""
    events: EventCache
    access: PeerAccess
    gatherer: Gatherer
    rules: list[Rule] = field(factory=list)
    """Asked in turn. Features add theirs while the house is built."""

    @property
    def public_key(self) -> str | None:
        """What a room's `m.room.policy` has to hold."""
        return None if self.key is None else encode_base64(self.key.verify_key)

    async def sign(self, origin: str, raw: bytes) -> dict[str, dict[str, str]]:
        """The signature on an event. Raises MatrixError, as the specification has it: 404 where this is no policy
        server, or not that room's; 403 for servers that are not in the room, or not allowed there; 400 where the event
        is none, or not wanted.
        """
        if self.key is None:
            raise NotFound("This server is no policy server", "M_UNRECOGNIZED")
        try:
            room_id = _decode_room(raw).room_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadJson(f"Not an event: {error}") from None
        room = await self.access.member(origin, room_id)
        try:
            event = parse_pdu(room.version, raw)
        except BadEvent as error:
            raise BadJson(f"Not an event of room version {room.version}: {error}") from None
        checked = (await self.gatherer.check(room.version, [event.raw]))[0]
        if isinstance(checked, str):
            raise _refusal(checked)
        if not content_hash_matches(event):
            # The signature would hold for whatever the hash is of, and that has not been seen.
            raise _refusal("its content is not what its hash says")
        return {self.server_name: {KEY_ID: await self.judge(room, origin, event)}}

    async def judge(self, room: LiveRoom, origin: str, event: Event) -> str:
        """The signature on an event of good form. Raises MatrixError."""
        if self.key is None or not await self._is_chosen(room):
            raise NotFound("This server is not the policy server of that room")
        if is_exempt(event):
            raise _refusal("the choice of a policy server is not for policy servers to judge")
        for rule in self.rules:
            why = await rule(room, origin, event)
            if why is not None:
                raise _refusal(why)
        signed = sign_event(room.version, event.to_json(), self.server_name, self.key)
        return str(signature_of(signed, self.server_name, KEY_ID))

    async def _is_chosen(self, room: LiveRoom) -> bool:
        """Whether the room names this server, by the key that it has now, and somebody from here is in it."""
        ref = room.visible.state.get(POLICY)
        stored = None if ref is None else await self.events.get(ref.nid)
        chosen = None if stored is None else read_policy(stored.event.content)
        if chosen is None or self.key is None:
            return False
        return chosen.via == self.server_name and chosen.key == self.key.verify_key and bool(room.local_joined)


def _refusal(why: str) -> MatrixError:
    return MatrixError(400, "M_FORBIDDEN", why)

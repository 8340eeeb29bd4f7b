"""What is asked of other servers about rooms: data in, data out, `PeerError` where nothing comes of it.

Events are raw JSON as they came, at most as many as were asked for; nothing of them is checked here.

Spec: https://spec.matrix.org/v1.19/server-server-api/
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from federation.outbound.client import FederationClient, path_to
from federation.outbound.parcels import Parcel
from federation.outbound.transactions import write_transaction
from federation.outbound.transport import BadAnswer, Refused
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from federation.service import service
from federation.wire.rooms import (
    InviteAnswer,
    MakeAnswer,
    MissingEvents,
    Pdus,
    SendJoinAnswer,
    SendKnockAnswer,
    StateAnswer,
    StateIdsAnswer,
    TimedEvent,
)
from homeserver.rooms.receive.ports import StateIds, WholeState

MAX_STATE_BYTES = 256 * 1024 * 1024
"""The state of a room with some hundred thousand members."""
JOIN_TIMEOUT_S = 120.0
MAX_TIMED_BYTES = 64 * 1024
ASK_TIMEOUT_S = 20.0
"""For what others wait for meanwhile: missing events, states."""

V1 = "/_matrix/federation/v1"
V2 = "/_matrix/federation/v2"

Membership = Literal["join", "leave", "knock"]


@service
class RemotePeers:
    """Implements `homeserver.rooms.receive.ports.Peers`, and the other half of the handshakes."""

    client: FederationClient

    # -- parts of the graph ------------------------------------------------------------------------------------

    async def get_missing_events(
        self, server: str, room_id: str, *, earliest: Sequence[str], latest: Sequence[str], limit: int
    ) -> Sequence[bytes]:
        body = {
            "earliest_events": list(earliest),
            "latest_events": list(latest),
            "limit": limit,
        }
        path = path_to(V1 + "/get_missing_events/{}", room_id)
        answer = await self.client.post(server, path, into=MissingEvents, body=body, timeout_s=ASK_TIMEOUT_S)
        return _raws(answer.events[:limit])

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds:
        path = path_to(V1 + "/state_ids/{}", room_id, query=[("event_id", event_id)])
        answer = await self.client.get(
            server, path, into=StateIdsAnswer, timeout_s=JOIN_TIMEOUT_S, max_bytes=MAX_STATE_BYTES
        )
        return StateIds(answer.pdu_ids, answer.auth_chain_ids)

    async def state(self, server: str, room_id: str, event_id: str) -> WholeState:
        path = path_to(V1 + "/state/{}", room_id, query=[("event_id", event_id)])
        answer = await self.client.get(
            server, path, into=StateAnswer, timeout_s=JOIN_TIMEOUT_S, max_bytes=MAX_STATE_BYTES
        )
        return WholeState(_raws(answer.pdus), _raws(answer.auth_chain))

    async def event(self, server: str, event_id: str) -> bytes:
        answer = await self.client.get(server, path_to(V1 + "/event/{}", event_id), into=Pdus, timeout_s=ASK_TIMEOUT_S)
        if len(answer.pdus) != 1:
            raise BadAnswer(server, "one event was asked for")
        return bytes(answer.pdus[0])

    async def timestamp_to_event(self, server: str, room_id: str, ts: int, direction: Literal["f", "b"]) -> TimedEvent:
        path = path_to(V1 + "/timestamp_to_event/{}", room_id, query=[("ts", str(ts)), ("dir", direction)])
        return await self.client.get(server, path, into=TimedEvent, timeout_s=ASK_TIMEOUT_S, max_bytes=MAX_TIMED_BYTES)

    async def backfill(self, server: str, room_id: str, *, earliest: Sequence[str], limit: int) -> Sequence[bytes]:
        query = [("v", event_id) for event_id in earliest] + [("limit", str(limit))]
        answer = await self.client.get(
            server, path_to(V1 + "/backfill/{}", room_id, query=query), into=Pdus, timeout_s=ASK_TIMEOUT_S
        )
        return _raws(answer.pdus[:limit])

    # -- events ------------------------------------------------------------------------------------------------

    async def tell(self, server: str, txn_id: str, raw: bytes) -> None:
        """Send one event, and wait until the server has taken it in; how it judges it is its own affair."""
        body = write_transaction(self.client.server_name, Parcel(txn_id, 0, [raw], []))
        path = path_to(V1 + "/send/{}", txn_id)
        await self.client.put(server, path, into=object, body=body, timeout_s=ASK_TIMEOUT_S)

    # -- handshakes --------------------------------------------------------------------------------------------

    async def make(self, server: str, membership: Membership, room_id: str, user_id: str) -> MakeAnswer:
        query = [] if membership == "leave" else [("ver", version) for version in ROOM_VERSIONS]
        path = path_to(f"{V1}/make_{membership}/{{}}/{{}}", room_id, user_id, query=query)
        return await self.client.get(server, path, into=MakeAnswer, timeout_s=ASK_TIMEOUT_S)

    async def send_join(self, server: str, room_id: str, event_id: str, raw: bytes) -> SendJoinAnswer:
        """Most of the members may be left out of what comes."""
        put = partial(self.client.put, server, body=raw, timeout_s=JOIN_TIMEOUT_S, max_bytes=MAX_STATE_BYTES)
        path = path_to(V2 + "/send_join/{}/{}", room_id, event_id, query=[("omit_members", "true")])
        try:
            return await put(path, into=SendJoinAnswer)
        except Refused as error:
            if not _knows_first_form_only(error):
                raise
            path = path_to(V1 + "/send_join/{}/{}", room_id, event_id)
            return (await put(path, into=tuple[int, SendJoinAnswer]))[1]

    async def send_leave(self, server: str, room_id: str, event_id: str, raw: bytes) -> None:
        try:
            await self.client.put(server, path_to(V2 + "/send_leave/{}/{}", room_id, event_id), into=object, body=raw)
        except Refused as error:
            if not _knows_first_form_only(error):
                raise
            await self.client.put(server, path_to(V1 + "/send_leave/{}/{}", room_id, event_id), into=object, body=raw)

    async def send_knock(self, server: str, room_id: str, event_id: str, raw: bytes) -> SendKnockAnswer:
        path = path_to(V1 + "/send_knock/{}/{}", room_id, event_id)
        return await self.client.put(server, path, into=SendKnockAnswer, body=raw)

    async def invite(
        self, server: str, version: RoomVersion, room_id: str, event_id: str, raw: bytes, glimpse: Sequence[bytes]
    ) -> bytes:
        """Give an invitation to the invited user's server; gives the event as that server signed it."""
        body: dict[str, Any] = {
            "room_version": version.identifier,
            "event": msgspec.Raw(raw),
            "invite_room_state": [msgspec.Raw(event) for event in glimpse],
        }
        try:
            path = path_to(V2 + "/invite/{}/{}", room_id, event_id)
            answer = await self.client.put(server, path, into=InviteAnswer, body=_encode(body))
        except Refused as error:
            if not _knows_first_form_only(error) or not _is_old(version):
                raise
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            fields["unsigned"] = msgspec.Raw(_encode({"invite_room_state": body["invite_room_state"]}))
            path = path_to(V1 + "/invite/{}/{}", room_id, event_id)
            answer = (await self.client.put(server, path, into=tuple[int, InviteAnswer], body=_encode(fields)))[1]
        return bytes(answer.event)


def _raws(pdus: Sequence[msgspec.Raw]) -> list[bytes]:
    return [bytes(pdu) for pdu in pdus]


def _knows_first_form_only(error: Refused) -> bool:
    """COMPAT servers of 2019, which know room versions 1 and 2."""
    return error.status in (400, 404) and error.errcode in ("M_UNRECOGNIZED", "")


def _is_old(version: RoomVersion) -> bool:
    return version.cites_with_hashes


def _encode(body: dict[str, Any]) -> bytes:
    """Canonical JSON of ready parts that are canonical already."""
    return msgspec.json.encode(dict(sorted(body.items())))

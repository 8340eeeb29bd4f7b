"""`GET /_matrix/client/v3/rooms/{roomId}/state` and below it: what is set in a room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate
"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.clock import Clock
from homeserver.http.route import GUEST, Reply, Requester, route
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.state_view import StateView


class WholeState(msgspec.Struct, frozen=True):
    room_id: str


class PieceOfState(msgspec.Struct, frozen=True):
    room_id: str
    event_type: str
    state_key: str = ""
    format: Literal["content", "event"] = "content"


@route("GET", "/_matrix/client/v3/rooms/{room_id}/state", auth=GUEST, rate="read")
async def get_state(view: StateView, clock: Clock, who: Requester, ask: WholeState) -> Reply:
    events = await view.whole(ask.room_id, who.user_id)
    reader = Reader(who.user_id, who.device_id, clock.now_ms())
    return Reply(body=b"[%b]" % b",".join([client_event(stored, reader) for stored in events]))


@route(
    "GET",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    auth=GUEST,
    rate="read",
    query=("format",),
)
async def get_piece_of_state(view: StateView, clock: Clock, who: Requester, ask: PieceOfState) -> Reply:
    stored = await view.piece(ask.room_id, who.user_id, (ask.event_type, ask.state_key))
    if ask.format == "content":
        return Reply(body=stored.event.content_json)
    return Reply(body=client_event(stored, Reader(who.user_id, who.device_id, clock.now_ms())))

"""`GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`: the event that is closest to a moment.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
"""

from __future__ import annotations

from typing import Literal

import msgspec

from federation.wire.rooms import TimedEvent
from homeserver.http.route import USER, Requester, route
from homeserver.rooms.moments import Moments


class ByTimestamp(msgspec.Struct, frozen=True):
    room_id: str
    ts: int
    dir: Literal["f", "b"]


@route(
    "GET",
    "/_matrix/client/v1/rooms/{room_id}/timestamp_to_event",
    "/_matrix/client/unstable/org.matrix.msc3030/rooms/{room_id}/timestamp_to_event",
    auth=USER,
    rate="read",
    query=("ts", "dir"),
)
async def get_event_by_timestamp(moments: Moments, who: Requester, ask: ByTimestamp) -> TimedEvent:
    return await moments.closest(ask.room_id, who.user_id, ask.ts, backwards=ask.dir == "b")

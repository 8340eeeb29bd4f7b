"""`POST /_matrix/client/v3/rooms/{roomId}/read_markers`: the fully-read marker, and receipts with it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidread_markers
"""

from __future__ import annotations

import msgspec

from homeserver.client.own import require_event_id
from homeserver.ephemeral.receipts import PRIVATE, READ
from homeserver.http.route import USER, Requester, route
from homeserver.rooms.access import RoomAccess
from homeserver.userdata.read_markers import FULLY_READ, Mark, ReadMarkers


class SetReadMarkers(msgspec.Struct, frozen=True):
    room_id: str
    fully_read: str | None = msgspec.field(name=FULLY_READ, default=None)
    read: str | None = msgspec.field(name=READ, default=None)
    private: str | None = msgspec.field(name=PRIVATE, default=None)


@route("POST", "/_matrix/client/v3/rooms/{room_id}/read_markers", auth=USER, rate="write")
async def set_read_markers(markers: ReadMarkers, access: RoomAccess, who: Requester, ask: SetReadMarkers) -> None:
    marks = [
        Mark(kind, require_event_id(event_id))
        for kind, event_id in ((FULLY_READ, ask.fully_read), (READ, ask.read), (PRIVATE, ask.private))
        if event_id is not None
    ]
    room = await access.member(ask.room_id, who.user_id)
    await markers.move(room.nid, who.user_id, marks)

"""`POST /_matrix/client/v3/createRoom`: make a room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom
"""

from __future__ import annotations

from homeserver.http.route import USER, Requester, route
from homeserver.rooms.create import CreateRoom, RoomMaker


@route("POST", "/_matrix/client/v3/createRoom", auth=USER, rate="room_creation")
async def create_room(maker: RoomMaker, who: Requester, ask: CreateRoom) -> dict[str, str]:
    return {"room_id": await maker.create(who.user_id, ask, who.is_admin)}

"""`GET /_matrix/client/v3/joined_rooms`: the rooms that the caller is in.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms
"""

from __future__ import annotations

from homeserver.http.route import GUEST, Requester, route
from storage.database import Database
from storage.memberships import rooms_of


@route("GET", "/_matrix/client/v3/joined_rooms", auth=GUEST, rate="read")
async def get_joined_rooms(database: Database, who: Requester) -> dict[str, list[str]]:
    rooms = await database.run(rooms_of, who.user_id, ["join"])
    return {"joined_rooms": [room.room_id for room in rooms]}

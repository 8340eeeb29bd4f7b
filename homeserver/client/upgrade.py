"""`POST /_matrix/client/v3/rooms/{roomId}/upgrade`: move a room to another version.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidupgrade
"""

from __future__ import annotations

import msgspec

from homeserver.http.route import USER, Requester, route
from homeserver.rooms.upgrade import Upgrades


class Upgrade(msgspec.Struct, frozen=True):
    room_id: str
    new_version: str
    additional_creators: list[str] = []


@route("POST", "/_matrix/client/v3/rooms/{room_id}/upgrade", auth=USER, rate="room_creation")
async def upgrade_room(upgrades: Upgrades, who: Requester, ask: Upgrade) -> dict[str, str]:
    return {
        "replacement_room": await upgrades.upgrade(who.user_id, ask.room_id, ask.new_version, ask.additional_creators)
    }

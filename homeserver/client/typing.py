"""`PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`: tell the room that one is typing.

Spec: https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidtypinguserid
"""

from __future__ import annotations

import msgspec

from homeserver.client.own import require_self
from homeserver.ephemeral.typing import TypingBoard
from homeserver.http.route import USER, Requester, route
from homeserver.rooms.access import RoomAccess


class SetTyping(msgspec.Struct, frozen=True):
    room_id: str
    user_id: str
    typing: bool
    timeout: int = 30_000
    """In ms."""


@route("PUT", "/_matrix/client/v3/rooms/{room_id}/typing/{user_id}", auth=USER, rate="typing")
async def set_typing(board: TypingBoard, access: RoomAccess, who: Requester, ask: SetTyping) -> None:
    require_self(who, ask.user_id)
    room = await access.member(ask.room_id, who.user_id)
    board.set(room, who.user_id, ask.typing, ask.timeout)

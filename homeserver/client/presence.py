"""`/_matrix/client/v3/presence/{userId}/status`: say how one wants to be seen, and look at others.

Spec: https://spec.matrix.org/v1.19/client-server-api/#presence
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.client.own import require_self, require_user_id
from homeserver.ephemeral.person import Wish
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.errors import InvalidParam
from homeserver.http.route import USER, Requester, route

MAX_STATUS_CHARACTERS = 1000


class SetPresence(msgspec.Struct, frozen=True):
    user_id: str
    presence: Wish
    status_msg: str | None = None


class GetPresence(msgspec.Struct, frozen=True):
    user_id: str


@route("PUT", "/_matrix/client/v3/presence/{user_id}/status", auth=USER, rate="write")
async def set_presence(board: PresenceBoard, who: Requester, ask: SetPresence) -> None:
    require_self(who, ask.user_id)
    if ask.status_msg is not None and len(ask.status_msg) > MAX_STATUS_CHARACTERS:
        raise InvalidParam(f"`status_msg` has at most {MAX_STATUS_CHARACTERS} characters")
    board.set(who.user_id, who.device_id, ask.presence, ask.status_msg or None)


@route("GET", "/_matrix/client/v3/presence/{user_id}/status", auth=USER, rate="read")
async def get_presence(board: PresenceBoard, who: Requester, ask: GetPresence) -> dict[str, Any]:
    return await board.status(who.user_id, require_user_id(ask.user_id))

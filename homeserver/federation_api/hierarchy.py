"""`GET /_matrix/federation/v1/hierarchy/{roomId}`: a space and what is directly below it.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.inbound.x_matrix import Origin
from homeserver.http.route import FEDERATION, route
from homeserver.spaces.serve import SpaceService


class GetHierarchy(msgspec.Struct, frozen=True):
    room_id: str
    suggested_only: bool = False


@route(
    "GET",
    "/_matrix/federation/v1/hierarchy/{room_id}",
    auth=FEDERATION,
    rate="federation",
    query=("suggested_only",),
)
async def get_hierarchy(spaces: SpaceService, who: Origin, ask: GetHierarchy) -> dict[str, Any]:
    return await spaces.tell(who.server_name, ask.room_id, ask.suggested_only)

"""`GET /_matrix/client/v1/rooms/{roomId}/hierarchy`: the rooms of a space, and of the spaces below it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.route import USER, Requester, route
from homeserver.spaces.walk import Hierarchy, HierarchyAsk


class GetHierarchy(msgspec.Struct, frozen=True):
    room_id: str
    suggested_only: bool | None = None
    limit: int | None = None
    max_depth: int | None = None
    from_: str | None = msgspec.field(name="from", default=None)


@route(
    "GET",
    "/_matrix/client/v1/rooms/{room_id}/hierarchy",
    auth=USER,
    rate="read",
    query=("suggested_only", "limit", "max_depth", "from"),
)
async def get_hierarchy(hierarchy: Hierarchy, who: Requester, ask: GetHierarchy) -> dict[str, Any]:
    wanted = HierarchyAsk(ask.limit, ask.max_depth, ask.suggested_only, ask.from_ or None)
    return await hierarchy.page(who.user_id, ask.room_id, wanted)

"""`/_matrix/client/v3/user/{userId}/filter`: keep a filter on the server, to name it from then on.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.client.own import require_self
from homeserver.http.route import USER, Reply, Requester, route
from homeserver.userdata.filters import FilterService


class PostFilter(msgspec.Struct, frozen=True):
    user_id: str
    filter: dict[str, Any]


class GetFilter(msgspec.Struct, frozen=True):
    user_id: str
    filter_id: str


@route("POST", "/_matrix/client/v3/user/{user_id}/filter", auth=USER, rate="write", body="filter")
async def post_filter(filters: FilterService, who: Requester, ask: PostFilter) -> dict[str, str]:
    require_self(who, ask.user_id)
    return {"filter_id": await filters.create(who.user_id, ask.filter)}


@route("GET", "/_matrix/client/v3/user/{user_id}/filter/{filter_id}", auth=USER, rate="read")
async def get_filter(filters: FilterService, who: Requester, ask: GetFilter) -> Reply:
    require_self(who, ask.user_id)
    return Reply(body=await filters.get(who.user_id, ask.filter_id))

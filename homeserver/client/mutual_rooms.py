"""`GET /_matrix/client/v1/mutual_rooms`: the rooms that one shares with somebody.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mutual_rooms
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.route import USER, Requester, route
from homeserver.people.mutual import MutualRooms


class GetMutual(msgspec.Struct, frozen=True):
    user_id: str
    from_: str | None = msgspec.field(name="from", default=None)


class GetMutualUnstable(msgspec.Struct, frozen=True):
    user_id: str
    batch_token: str | None = None


@route("GET", "/_matrix/client/v1/mutual_rooms", auth=USER, rate="directory", query=("user_id", "from"))
async def get_mutual_rooms(mutual: MutualRooms, who: Requester, ask: GetMutual) -> dict[str, Any]:
    return await mutual.with_user(who.user_id, ask.user_id, ask.from_)


# COMPAT matrix-js-sdk, Element: the proposal's form (MSC2666), which they look for in the flags of /versions.
@route(
    "GET",
    "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
    auth=USER,
    rate="directory",
    query=("user_id", "batch_token"),
)
async def get_mutual_rooms_unstable(mutual: MutualRooms, who: Requester, ask: GetMutualUnstable) -> dict[str, Any]:
    answer = await mutual.with_user(who.user_id, ask.user_id, ask.batch_token)
    if "next_batch" in answer:
        answer["next_batch_token"] = answer.pop("next_batch")
    return answer

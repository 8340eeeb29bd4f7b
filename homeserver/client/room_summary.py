"""`GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`: what a room is, before one comes in.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.route import USER, Requester, route
from homeserver.spaces.summaries import Summaries


class GetSummary(msgspec.Struct, frozen=True):
    room_id_or_alias: str
    via: list[str] = []


# COMPAT matrix-js-sdk and Element X ask at the paths of the proposal (MSC3266) too.
@route(
    "GET",
    "/_matrix/client/v1/room_summary/{room_id_or_alias}",
    "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}",
    "/_matrix/client/unstable/im.nheko.summary/rooms/{room_id_or_alias}/summary",
    auth=USER,
    rate="directory",
    query=("via",),
)
async def get_summary(summaries: Summaries, who: Requester, ask: GetSummary) -> dict[str, Any]:
    return await summaries.of(who.user_id, ask.room_id_or_alias, ask.via)

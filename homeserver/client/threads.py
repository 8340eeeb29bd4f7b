"""`GET /_matrix/client/v1/rooms/{roomId}/threads`: the threads of a room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidthreads
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import orjson

from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.route import GUEST, Requester, route
from homeserver.relations.threads import DEFAULT_LIMIT, ThreadList, ThreadsAsk
from homeserver.rooms.render import Reader
from homeserver.streams.tokens import RoomToken, parse_room_token


class GetThreads(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    room_id: str
    include: Literal["all", "participated"] = "all"
    limit: int = DEFAULT_LIMIT
    from_: str | None = None


@route(
    "GET",
    "/_matrix/client/v1/rooms/{room_id}/threads",
    # COMPAT matrix-js-sdk: it asks here where a server only knows the proposal.
    "/_matrix/client/unstable/org.matrix.msc3856/rooms/{room_id}/threads",
    auth=GUEST,
    rate="read",
    query=("include", "limit", "from"),
)
async def get_threads(threads: ThreadList, clock: Clock, who: Requester, ask: GetThreads) -> dict[str, Any]:
    if ask.limit < 1:
        raise InvalidParam("`limit` must be greater than zero")
    wanted = ThreadsAsk(
        room_id=ask.room_id,
        # The token lies behind the newest event of the last thread of a page.
        before=None if ask.from_ is None else parse_room_token(ask.from_, "from").position,
        limit=ask.limit,
        participated=ask.include == "participated",
    )
    page = await threads.page(Reader(who.user_id, who.device_id, clock.now_ms()), wanted)
    answer: dict[str, Any] = {"chunk": orjson.Fragment(b"[%b]" % b",".join(page.roots))}
    if page.end is not None:
        answer["next_batch"] = str(RoomToken(page.end))
    return answer

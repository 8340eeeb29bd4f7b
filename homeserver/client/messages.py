"""`GET /_matrix/client/v3/rooms/{roomId}/messages`: page through a room's timeline.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import orjson

from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.route import GUEST, Requester, route
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import History
from homeserver.rooms.paging import PageAsk
from homeserver.rooms.render import Reader, client_event
from homeserver.streams.tokens import parse_room_token
from homeserver.sync.filters import NO_EVENT_FILTER, parse_inline_event_filter


class Messages(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    room_id: str
    # COMPAT: the specification requires it; older clients leave it out, and Synapse then goes forwards.
    dir: Literal["b", "f"] = "f"
    from_: str | None = None
    to: str | None = None
    limit: int = 10
    filter: str | None = None


@route(
    "GET",
    "/_matrix/client/v3/rooms/{room_id}/messages",
    auth=GUEST,
    rate="read",
    query=("dir", "from", "to", "limit", "filter"),
)
async def get_messages(
    history: History, bundles: Bundles, clock: Clock, who: Requester, ask: Messages
) -> dict[str, Any]:
    if ask.limit < 0:
        raise InvalidParam("`limit` must not be negative")
    filter = NO_EVENT_FILTER if ask.filter is None else parse_inline_event_filter(ask.filter)
    wanted = PageAsk(
        backwards=ask.dir == "b",
        start=None if ask.from_ is None else parse_room_token(ask.from_, "from"),
        stop=None if ask.to is None else parse_room_token(ask.to, "to").position,
        limit=ask.limit,
        filter=filter,
    )
    page = await history.page(ask.room_id, who.user_id, wanted)
    reader = Reader(who.user_id, who.device_id, clock.now_ms(), page.replaced.get)
    reader = await bundles.reader(reader, page.room, [stored for stored, _ in page.events])
    copies = [client_event(stored, reader, membership=membership) for stored, membership in page.events]
    answer: dict[str, Any] = {"start": str(page.start), "chunk": orjson.Fragment(b"[%b]" % b",".join(copies))}
    if page.end is not None:
        answer["end"] = str(page.end)
    if filter.lazy_load_members:
        answer["state"] = [orjson.Fragment(client_event(stored, reader)) for stored in page.state]
    return answer

"""`GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}…`: what hangs on an event.

Spec: https://spec.matrix.org/v1.19/client-server-api/#relationships-api
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import orjson

from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.route import GUEST, Requester, route
from homeserver.relations.bundles import Bundles
from homeserver.relations.listing import Relations, RelationsAsk
from homeserver.rooms.render import Reader, client_event
from homeserver.streams.tokens import RoomToken, parse_room_token
from storage.relations import DEEPEST

DEFAULT_LIMIT = 20


class GetRelations(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    room_id: str
    event_id: str
    rel_type: str | None = None
    event_type: str | None = None
    from_: str | None = None
    to: str | None = None
    limit: int = DEFAULT_LIMIT
    dir: Literal["b", "f"] = "b"
    recurse: bool | None = None


@route(
    "GET",
    "/_matrix/client/v1/rooms/{room_id}/relations/{event_id}/{rel_type}/{event_type}",
    "/_matrix/client/v1/rooms/{room_id}/relations/{event_id}/{rel_type}",
    "/_matrix/client/v1/rooms/{room_id}/relations/{event_id}",
    # COMPAT older clients, from before relations were in the specification.
    "/_matrix/client/unstable/rooms/{room_id}/relations/{event_id}/{rel_type}/{event_type}",
    "/_matrix/client/unstable/rooms/{room_id}/relations/{event_id}/{rel_type}",
    "/_matrix/client/unstable/rooms/{room_id}/relations/{event_id}",
    auth=GUEST,
    rate="read",
    query=("from", "to", "limit", "dir", "recurse"),
)
async def get_relations(
    relations: Relations, bundles: Bundles, clock: Clock, who: Requester, ask: GetRelations
) -> dict[str, Any]:
    if ask.limit < 0:
        raise InvalidParam("`limit` must not be negative")
    wanted = RelationsAsk(
        room_id=ask.room_id,
        event_id=ask.event_id,
        rel_type=ask.rel_type,
        event_type=ask.event_type,
        backwards=ask.dir == "b",
        start=None if ask.from_ is None else parse_room_token(ask.from_, "from").position,
        stop=None if ask.to is None else parse_room_token(ask.to, "to").position,
        limit=ask.limit,
        recurse=bool(ask.recurse),
    )
    page = await relations.page(who.user_id, wanted)
    reader = Reader(who.user_id, who.device_id, clock.now_ms(), page.replaced.get)
    reader = await bundles.reader(reader, page.room, [stored for stored, _ in page.events])
    chunk = [client_event(stored, reader, membership=membership) for stored, membership in page.events]
    answer: dict[str, Any] = {"chunk": orjson.Fragment(b"[%b]" % b",".join(chunk))}
    if page.end is not None:
        answer["next_batch"] = str(RoomToken(page.end))
    if ask.from_ is not None:
        answer["prev_batch"] = ask.from_
    if ask.recurse is not None:
        answer["recursion_depth"] = DEEPEST if ask.recurse else 1
    return answer

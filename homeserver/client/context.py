"""`GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`: an event and what was said around it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidcontexteventid
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.route import GUEST, Requester, route
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import History
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.tracing import Seen
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import NO_EVENT_FILTER, parse_inline_event_filter


class Context(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    limit: int = 10
    filter: str | None = None


@route(
    "GET",
    "/_matrix/client/v3/rooms/{room_id}/context/{event_id}",
    auth=GUEST,
    rate="read",
    query=("limit", "filter"),
)
async def get_context(history: History, bundles: Bundles, clock: Clock, who: Requester, ask: Context) -> dict[str, Any]:
    if ask.limit < 0:
        raise InvalidParam("`limit` must not be negative")
    filter = NO_EVENT_FILTER if ask.filter is None else parse_inline_event_filter(ask.filter)
    found = await history.context(ask.room_id, who.user_id, ask.event_id, ask.limit, filter)
    reader = Reader(who.user_id, who.device_id, clock.now_ms(), found.replaced.get)
    shown = [stored for stored, _ in (*found.before, found.event, *found.after)]
    reader = await bundles.reader(reader, found.room, shown)

    def copy(seen: Seen) -> orjson.Fragment:
        stored, membership = seen
        return orjson.Fragment(client_event(stored, reader, membership=membership))

    return {
        "start": str(RoomToken(found.start)),
        "end": str(RoomToken(found.end)),
        "event": copy(found.event),
        "events_before": [copy(one) for one in found.before],
        "events_after": [copy(one) for one in found.after],
        "state": [orjson.Fragment(client_event(stored, reader)) for stored in found.state],
    }

"""`GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`: one event.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid
"""

from __future__ import annotations

import msgspec

from homeserver.clock import Clock
from homeserver.http.route import GUEST, Reply, Requester, route
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import History
from homeserver.rooms.render import Reader, client_event


class OneEvent(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str


@route("GET", "/_matrix/client/v3/rooms/{room_id}/event/{event_id}", auth=GUEST, rate="read")
async def get_event(history: History, bundles: Bundles, clock: Clock, who: Requester, ask: OneEvent) -> Reply:
    found = await history.event(ask.room_id, who.user_id, ask.event_id)
    stored, membership = found.event
    reader = Reader(who.user_id, who.device_id, clock.now_ms(), found.replaced.get)
    reader = await bundles.reader(reader, found.room, [stored])
    return Reply(body=client_event(stored, reader, membership=membership))

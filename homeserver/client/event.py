"""`GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`: one event; and `GET /_matrix/client/v3/events/{eventId}`,
where older clients ask for it without saying in which room it is.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid
"""

from __future__ import annotations

import msgspec

from homeserver.clock import Clock
from homeserver.http.route import GUEST, USER, Reply, Requester, route
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import History
from homeserver.rooms.render import Reader, client_event


class OneEvent(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str


class AnyEvent(msgspec.Struct, frozen=True):
    event_id: str


@route("GET", "/_matrix/client/v3/rooms/{room_id}/event/{event_id}", auth=GUEST, rate="read")
async def get_event(history: History, bundles: Bundles, clock: Clock, who: Requester, ask: OneEvent) -> Reply:
    found = await history.event(ask.room_id, who.user_id, ask.event_id)
    stored, membership = found.event
    reader = Reader(who.user_id, who.device_id, clock.now_ms(), found.replaced.get)
    reader = await bundles.reader(reader, found.room, [stored])
    return Reply(body=client_event(stored, reader, membership=membership))


@route("GET", "/_matrix/client/v3/events/{event_id}", auth=USER, rate="read")
async def get_any_event(history: History, bundles: Bundles, clock: Clock, who: Requester, ask: AnyEvent) -> Reply:
    room_id = await history.room_of(ask.event_id)
    return await get_event(history, bundles, clock, who, OneEvent(room_id, ask.event_id))

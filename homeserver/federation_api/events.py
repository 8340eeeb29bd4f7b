"""Events, states and pieces of a room's past, for servers that are in the room.

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-events
and https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from typing import Literal

import msgspec

from federation.inbound.x_matrix import Origin
from federation.wire.rooms import TimedEvent
from homeserver.http.route import FEDERATION, route
from homeserver.rooms.serve.graph import Graph

Answer = dict[str, object]

ROOT = "/_matrix/federation/v1"


class OneEvent(msgspec.Struct, frozen=True):
    event_id: str


class EventInRoom(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str


class Backfill(msgspec.Struct, frozen=True):
    room_id: str
    limit: int
    v: list[str] = []


class Missing(msgspec.Struct, frozen=True):
    room_id: str
    earliest_events: list[str]
    latest_events: list[str]
    limit: int = 10
    min_depth: int = 0


@route("GET", ROOT + "/event/{event_id}", auth=FEDERATION, rate="federation")
async def get_event(graph: Graph, who: Origin, ask: OneEvent) -> Answer:
    return await graph.event(who.server_name, ask.event_id)


@route("GET", ROOT + "/state/{room_id}", auth=FEDERATION, rate="federation", query=("event_id",))
async def get_state(graph: Graph, who: Origin, ask: EventInRoom) -> Answer:
    return await graph.state(who.server_name, ask.room_id, ask.event_id)


@route("GET", ROOT + "/state_ids/{room_id}", auth=FEDERATION, rate="federation", query=("event_id",))
async def get_state_ids(graph: Graph, who: Origin, ask: EventInRoom) -> Answer:
    return await graph.state_ids(who.server_name, ask.room_id, ask.event_id)


@route("GET", ROOT + "/event_auth/{room_id}/{event_id}", auth=FEDERATION, rate="federation")
async def get_event_auth(graph: Graph, who: Origin, ask: EventInRoom) -> Answer:
    return await graph.event_auth(who.server_name, ask.room_id, ask.event_id)


@route("GET", ROOT + "/backfill/{room_id}", auth=FEDERATION, rate="federation", query=("v", "limit"))
async def get_backfill(graph: Graph, who: Origin, ask: Backfill) -> Answer:
    return await graph.backfill(who.server_name, ask.room_id, ask.v, ask.limit)


class ByTimestamp(msgspec.Struct, frozen=True):
    room_id: str
    ts: int
    dir: Literal["f", "b"]


@route("GET", ROOT + "/timestamp_to_event/{room_id}", auth=FEDERATION, rate="federation", query=("ts", "dir"))
async def get_event_by_timestamp(graph: Graph, who: Origin, ask: ByTimestamp) -> TimedEvent:
    return await graph.closest(who.server_name, ask.room_id, ask.ts, backwards=ask.dir == "b")


@route("POST", ROOT + "/get_missing_events/{room_id}", auth=FEDERATION, rate="federation", interruptible=True)
async def get_missing_events(graph: Graph, who: Origin, ask: Missing) -> Answer:
    return await graph.missing(
        who.server_name,
        ask.room_id,
        earliest=ask.earliest_events,
        latest=ask.latest_events,
        limit=ask.limit,
        min_depth=ask.min_depth,
    )

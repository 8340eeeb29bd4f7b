"""Walking a room's graph back along previous events, as peers ask for it.

Spec: https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from storage.events import FIRST, LAST, load_by_ids, timeline
from storage.ports import Cursor, StoredEvent

MOST_PASSED_OVER = 500
"""Rejected events that a walk steps over: more of them in a row are an attack."""


def walk_back(
    cursor: Cursor,
    room_nid: int,
    start: Collection[str],
    *,
    limit: int,
    stop: Collection[str] = (),
    min_depth: int = 0,
    with_start: bool = True,
) -> list[StoredEvent]:
    """The events from which `start` follows, and those themselves if asked for; greatest depth first.

    Goes on from no event of `stop` and from none below `min_depth`, none of which are among the answer, and stops at
    `limit` events. What was rejected is passed over: only its ancestors count. Outliers are not part of the graph.
    """
    known = _part_of_graph(room_nid, load_by_ids(cursor, start))
    if known:
        newest = max(stored.position for stored in known.values())
        # Ancestors mostly stand right before in the timeline: read in one go, whatever the graph is like there.
        for stored in timeline(cursor, room_nid, after=FIRST, upto=min(newest, LAST), limit=limit, backwards=True):
            known.setdefault(stored.event.event_id, stored)
    begun = set(start)
    ends = set(stop)
    seen = set(begun)
    heap = [(-known[event_id].event.depth, -known[event_id].position, event_id) for event_id in begun & known.keys()]
    heapq.heapify(heap)
    found: list[StoredEvent] = []
    steps = limit + MOST_PASSED_OVER
    while heap and len(found) < limit and steps:
        steps -= 1
        stored = known[heapq.heappop(heap)[2]]
        event = stored.event
        is_start = event.event_id in begun
        if not is_start and (event.event_id in ends or event.depth < min_depth):
            continue
        if not stored.rejected and (with_start or not is_start):
            found.append(stored)
        before = [event_id for event_id in event.prev_events if event_id not in seen]
        seen.update(before)
        missing = [event_id for event_id in before if event_id not in known]
        if missing:
            known.update(_part_of_graph(room_nid, load_by_ids(cursor, missing)))
        for event_id in before:
            if event_id in known:
                one = known[event_id]
                heapq.heappush(heap, (-one.event.depth, -one.position, event_id))
    return found


def _part_of_graph(room_nid: int, events: dict[str, StoredEvent]) -> dict[str, StoredEvent]:
    return {event_id: stored for event_id, stored in events.items() if stored.room_nid == room_nid and stored.position}

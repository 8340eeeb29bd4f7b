"""What lies between an event that a peer sends and the room as it is here: asked for in rounds, before it is taken.

Each round asks for what precedes the edge of what was told so far, up to what is here. A branch may have been missed
for long while the room went on, so nothing is said of depth. And besides the newest here, the ends that are named are
those on which the edge itself rests, or else the answer would be filled with what is behind them and known. A peer that
gives few events has no more to give: what is still missing then is behind the gap, and the state there has to be taken
on its word.

Spec: https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
"""

from __future__ import annotations

from attrs import frozen

from federation.room.event import Event
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.known import KnownEvents

MAX_ROUNDS = 5
"""How often the gap before one event is asked about."""
FEW = 10
"""Peers give at most 20 events at a time, some half of that: who gives fewer has no more between the two ends."""
MAX_EDGE = 20
"""Events before which more is asked for at a time."""
MAX_ENDS = 100
"""Events here that are named as what is not asked for."""


@frozen
class Gaps:
    """Finds out what is in them."""

    known: KnownEvents
    gatherer: Gatherer

    async def before(self, origin: str, room: LiveRoom, event: Event) -> list[Event] | None:
        """Events that precede one and are not placed here, the earliest first; None if the peer could not be asked."""
        told: dict[str, Event] = {}
        newest = list(room.standing.head.extremities)
        for _ in range(MAX_ROUNDS):
            edge, ends = await self._edge(room, {event.event_id: event} | told)
            if not edge:
                break
            answer = await self.gatherer.missing_before(
                origin,
                room.version,
                room.room_id,
                earliest=[*newest, *(end for end in ends if end not in newest)][:MAX_ENDS],
                latest=edge[:MAX_EDGE],
            )
            if answer is None:
                return sorted(told.values(), key=_depth) or None
            new = {one.event_id: one for one in answer if one.event_id not in told and one.event_id != event.event_id}
            told |= new
            if len(answer) < FEW or not new:
                break
        return sorted(told.values(), key=_depth)

    async def _edge(self, room: LiveRoom, events: dict[str, Event]) -> tuple[list[str], list[str]]:
        """Those whose predecessors are neither among them nor here; and what is here of these predecessors."""
        wanted = {event_id for event in events.values() for event_id in event.prev_events} - events.keys()
        found = await self.known.find(room, sorted(wanted))
        missing = {event_id for event_id in wanted if event_id not in found or not found[event_id].position}
        edge = [event for event in events.values() if not missing.isdisjoint(event.prev_events)]
        here = {event_id for event in edge for event_id in event.prev_events} - missing - events.keys()
        return sorted(event.event_id for event in edge), sorted(here)


def _depth(event: Event) -> tuple[int, str]:
    return event.depth, event.event_id

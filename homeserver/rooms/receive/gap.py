"""What lies between an event that a peer sends and the room as it is here: asked for in rounds, before it is taken.

Each round asks for what precedes the edge of what was told so far, up to what is here. A branch may have been missed
for long while the room went on, so nothing is said of depth. And besides the newest here, the ends that are named are
those on which the edge itself rests, or else the answer would be filled with what is behind them and known. A peer that
gives few events has no more to give: what is still missing then is behind the gap, and the state there has to be taken
on its word.

What lies behind this server's own beginnings in the room is no gap but the past. It is for backfill: placed at the end
of the room, it would be taken for news. The first question does not name these beginnings, as most gaps are small and
peers expect to be told what is here; the further ones do, which would else be answered with more and more of the past.

Spec: https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set

import msgspec

from federation.room.event import Event
from federation.service import service
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.known import KnownEvents
from storage import gaps as gap_rows
from storage.events import FIRST, LAST, timeline
from storage.ports import Cursor

MAX_ROUNDS = 5
"""How often the gap before one event is asked about."""
FEW = 10
"""Peers give at most 20 events at a time, some half of that: who gives fewer has no more between the two ends."""
MAX_EDGE = 20
"""Events before which more is asked for at a time."""
MAX_ENDS = 100
"""Events here that are named as what is not asked for."""


class Gap(msgspec.Struct, frozen=True):
    """What a peer told of it."""

    news: Sequence[Event]
    """Events that are not placed here, the earliest first."""
    past: Set[str]
    """Ids of others that the peer has, from before this server was there."""


@service
class Gaps:
    """Finds out what is in them."""

    known: KnownEvents
    gatherer: Gatherer

    async def before(self, origin: str, room: LiveRoom, event: Event) -> Gap | None:
        """What precedes an event; None if the peer could not be asked."""
        told: dict[str, Event] = {}
        newest = list(room.standing.head.extremities)
        behind, floor = await self.known.database.run(_beginnings, room.nid)
        past = set(behind)  # it is named as what is not asked for, so nobody tells of it
        for _ in range(MAX_ROUNDS):
            edge, ends = await self._edge(room, {event.event_id: event} | _without(told, past), past)
            if not edge:
                break
            answer = await self.gatherer.missing_before(
                origin,
                room.version,
                room.room_id,
                earliest=list(dict.fromkeys([*newest, *ends, *(behind if told else ())]))[:MAX_ENDS],
                latest=edge[:MAX_EDGE],
            )
            if answer is None:
                if not told:
                    return None
                break
            new = {one.event_id: one for one in answer if one.event_id not in told and one.event_id != event.event_id}
            told |= new
            past |= _past(told, behind, floor)
            if len(answer) < FEW or new.keys() <= past:
                break
        return Gap(sorted(_without(told, past).values(), key=_depth), past)

    async def _edge(self, room: LiveRoom, events: dict[str, Event], past: Set[str]) -> tuple[list[str], list[str]]:
        """Those whose predecessors are neither among them nor here; and what is here of these predecessors."""
        wanted = {event_id for event in events.values() for event_id in event.prev_events} - events.keys() - past
        found = await self.known.find(room, sorted(wanted))
        missing = {event_id for event_id in wanted if event_id not in found or not found[event_id].position}
        edge = [event for event in events.values() if not missing.isdisjoint(event.prev_events)]
        here = {event_id for event in edge for event_id in event.prev_events} & wanted - missing
        return sorted(event.event_id for event in edge), sorted(here)


def _beginnings(cursor: Cursor, room_nid: int) -> tuple[list[str], int]:
    """The events that the room's first ones here follow, and the depth at which it begins here."""
    behind = gap_rows.missing_prev(cursor, room_nid)
    if not behind:
        return [], 0  # it is here from its creation on
    first = timeline(cursor, room_nid, after=FIRST, upto=LAST, limit=1)
    return behind, min((stored.event.depth for stored in first), default=0)


def _past(told: Mapping[str, Event], behind: Collection[str], floor: int) -> set[str]:
    """Those of the events told that come before what is here, or are as old as that."""
    found: set[str] = set()
    frontier = [event_id for event_id, event in told.items() if event.depth < floor or event_id in behind]
    while frontier:
        event_id = frontier.pop()
        if event_id not in found:
            found.add(event_id)
            frontier.extend(before for before in told[event_id].prev_events if before in told)
    return found


def _without(told: Mapping[str, Event], past: Set[str]) -> dict[str, Event]:
    return {event_id: event for event_id, event in told.items() if event_id not in past}


def _depth(event: Event) -> tuple[int, str]:
    return event.depth, event.event_id

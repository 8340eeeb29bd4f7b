"""The definitions of state resolution written down word by word, slow and plain: what our own is held against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from federation.room.event import Event
from federation.room.resolution import Conflict, StateMap

Events = Mapping[str, Event]


def auth_chain(event_id: str, events: Events) -> set[str]:
    """An event, what it cites, what that cites, and so on."""
    chain = {event_id}
    for cited in events[event_id].auth_events:
        if cited not in chain:
            chain |= auth_chain(cited, events)
    return chain


def auth_difference(forks: Sequence[StateMap], events: Events) -> set[str]:
    """The union of the forks' full auth chains without their intersection."""
    chains = [set().union(*(auth_chain(event_id, events) for event_id in fork.values())) for fork in forks]
    return set().union(*chains) - chains[0].intersection(*chains[1:])


def conflicted_subgraph(conflict: Conflict, events: Events) -> set[str]:
    """All events of all paths from one conflicted event to another."""
    return {
        event_id
        for start in conflict.event_ids
        for event_id in auth_chain(start, events)
        if auth_chain(event_id, events) & conflict.event_ids
    }


def power_levels_line(event: Event, events: Events) -> list[str]:
    """The power levels that an event cites, those that these cite, and so on: not the event itself."""
    line: list[str] = []
    following: Event | None = event
    while following is not None:
        cited = (events[event_id] for event_id in following.auth_events)
        following = next((e for e in cited if (e.type, e.state_key) == ("m.room.power_levels", "")), None)
        if following is not None:
            line.append(following.event_id)
    return line


def mainline_position(event: Event, power_levels: Event | None, events: Events) -> float:
    """Where the line of an event joins the mainline of power levels."""
    if power_levels is None:
        return math.inf
    mainline = [power_levels.event_id, *power_levels_line(power_levels, events)]
    return next((mainline.index(e) for e in power_levels_line(event, events) if e in mainline), math.inf)

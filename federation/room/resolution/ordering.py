"""The two orders in which state resolution hears conflicted events.

Spec: https://spec.matrix.org/v1.19/rooms/v12/#definitions
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from itertools import takewhile

from federation.room.auth.selection import CREATE
from federation.room.event import Event
from federation.room.resolution.evidence import Evidence


def order_by_power(event_ids: Collection[str], evidence: Evidence) -> list[Event]:
    """Reverse topological power ordering, earliest first: what is cited comes before what cites it, and among events
    that are free to go, the one of the most powerful sender, then the oldest, then that of the smallest id.

    Events that are not cited directly by one another are free of one another.
    """
    waiting_for: dict[str, int] = {}
    cited_by: dict[str, list[str]] = {}
    for event_id in event_ids:
        cited = [cited for cited in dict.fromkeys(evidence.require(event_id).auth_events) if cited in event_ids]
        waiting_for[event_id] = len(cited)
        for other in cited:
            cited_by.setdefault(other, []).append(event_id)

    free = [_by_power(event_id, evidence) for event_id, count in waiting_for.items() if count == 0]
    heapify(free)
    ordered: list[Event] = []
    while free:
        *_, event_id = heappop(free)
        ordered.append(evidence.require(event_id))
        for other in cited_by.get(event_id, ()):
            waiting_for[other] -= 1
            if waiting_for[other] == 0:
                heappush(free, _by_power(other, evidence))
    return ordered


def _by_power(event_id: str, evidence: Evidence) -> tuple[float, int, str]:
    event, precedents = evidence.require(event_id), evidence.precedents
    level = None if precedents is None else precedents.power_of_sender.get(event_id)
    if level is None:
        power = evidence.power(evidence.cited_at(event, CREATE), evidence.cited_power_levels(event))
        level = power.user(event.sender)
        if precedents is not None:
            precedents.power_of_sender[event_id] = level
    return (-level, event.origin_server_ts, event_id)


def order_by_mainline(events: Iterable[Event], power_levels: Event | None, evidence: Evidence) -> list[Event]:
    """Mainline ordering based on a power levels event (None: all events are equally far from it), earliest first."""
    mainline = Mainline(power_levels, evidence)
    return sorted(events, key=lambda event: (-mainline.position(event), event.origin_server_ts, event.event_id))


class Mainline:
    """The line of power levels events from the current one to the room's first, each cited by the one before.

    Positions count from 0, the current one. A room may have thousands of them, and events under dispute cite recent
    ones, so the line is drawn no further than needed: the depths of events, although their senders may have made
    them up, tell which of two lines to follow next, while the answer does not depend on them.
    """

    def __init__(self, power_levels: Event | None, evidence: Evidence) -> None:
        self._evidence = evidence
        self._line: dict[str, int] = {}
        """The line as far as it is drawn: the position of each power levels event."""
        self._last = power_levels
        """The last event drawn; None once there is nothing to draw after it."""
        self._joins: dict[str, float] = {}
        """For power levels off the line, where their own line joins it."""
        if power_levels is not None:
            self._line[power_levels.event_id] = 0

    def position(self, event: Event) -> float:
        """How far back on the mainline is the first power levels event that `event` rests on; infinite if none is.

        Raises `MissingEvent`.
        """
        if not self._line:
            return math.inf
        aside: dict[str, None] = {}  # the line of `event`, in order, as far as it is not known to be on the mainline
        cited = self._evidence.cited_power_levels(event)
        while cited is not None and cited.event_id not in aside:
            if self._draw(aside, cited.depth):
                break
            known = self._line.get(cited.event_id, self._joins.get(cited.event_id))
            if known is not None:
                return self._remember(aside, known)
            aside[cited.event_id] = None
            cited = self._evidence.cited_power_levels(cited)
        else:
            if aside:
                self._draw(aside, -math.inf)
        # What follows on the way aside after the first that is on the mainline, is the mainline itself.
        before_joining = list(takewhile(lambda event_id: event_id not in self._line, aside))
        joined = next((self._line[event_id] for event_id in aside if event_id in self._line), math.inf)
        return self._remember(before_joining, joined)

    def _draw(self, aside: Collection[str], depth: float) -> bool:
        """Draw the line down to a depth, or until it meets one of those met aside. Tells whether it did."""
        while self._last is not None and self._last.depth > depth:
            following = self._evidence.cited_power_levels(self._last)  # may raise: nothing was changed yet
            if following is None or following.event_id in self._line:
                self._last = None
                return False
            self._line[following.event_id] = len(self._line)
            self._last = following
            if following.event_id in aside:
                return True
        return False

    def _remember(self, aside: Iterable[str], position: float) -> float:
        for event_id in aside:
            self._joins[event_id] = position
        return position

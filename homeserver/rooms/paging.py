"""Walking along a room's timeline until enough of it is visible and wanted.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from homeserver.rooms.tracing import Seen, Viewer
from homeserver.rooms.visibility import Visibility, is_ignored
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import EventFilter
from storage.events import FIRST, LAST, placed_at, timeline
from storage.ports import Cursor, StoredEvent
from storage.relations import related_by
from storage.visibility import next_turn

MOST_EVENTS = 1000
"""In one page, whatever the client asks for."""
SCAN_EVENTS = 100
"""How many events are read at once where the page that was asked for turned out to hold too few."""
MOST_SCANNED = 2000
"""Events that one request looks at where few are visible or wanted; then it answers with what it has."""


class PageAsk(msgspec.Struct, frozen=True, gc=False):
    """Which page: from `start` towards `stop` (both between events; None: as far as there is anything)."""

    backwards: bool
    start: RoomToken | None
    stop: int | None
    limit: int
    filter: EventFilter

    def passed(self, position: int) -> RoomToken:
        """The place behind the event at `position`, in reading direction."""
        if self.backwards:
            return RoomToken(position - 1) if self.start is None else self.start.before(position)
        return RoomToken(position) if self.start is None else self.start.behind(position)


class Walk:
    """Reads a timeline piece by piece until enough of it is visible and wanted, or nothing more can be."""

    def __init__(
        self,
        cursor: Cursor,
        visibility: Visibility,
        viewer: Viewer,
        ask: PageAsk,
        ignored: Container[str] = (),
    ) -> None:
        """`ignored`: whose messages the reader does not want to see."""
        self._cursor = cursor
        self._visibility = visibility
        self._viewer = viewer
        self._ask = ask
        self._ignored = ignored
        start, stop = None if ask.start is None else ask.start.position, ask.stop
        if ask.backwards:
            self._after, self._upto = FIRST if stop is None else stop, LAST if start is None else start
        else:
            self._after, self._upto = FIRST if start is None else start, LAST if stop is None else stop
        self._held = () if ask.start is None else ask.start.held
        """Backwards, what comes before everything else, and is still to be read; forwards, what is passed over."""
        self.first: int | None = None
        """Position of the first event that was looked at."""
        self.end: RoomToken | None = None
        """Where to read on; None where there is nothing more."""

    def stop_after(self, position: int) -> None:
        """Nothing past that position is for this reader."""
        self._upto = min(self._upto, position)
        if self._ask.backwards:
            self._held = tuple(one for one in self._held if one <= position)

    def collect(self) -> list[Seen]:
        ask = self._ask
        limit = min(ask.limit, MOST_EVENTS)
        found: list[Seen] = []
        scanned = 0
        size = limit + 1
        while True:
            events = self._read(size)
            if events and self.first is None:
                self.first = events[0].position
            seen = self._visibility.seen_with(self._cursor, self._viewer, events)
            for one in self._wanted(seen):
                if len(found) == limit:
                    # One more than was asked for: so there is a next page, and it begins here.
                    self.end = ask.passed(found[-1][0].position)
                    return found
                found.append(one)
            if len(events) < size:
                return found
            self._move(events[-1].position)
            if not seen and not self._skip_hidden(events[-1].position):
                return found
            scanned += len(events)
            if len(found) == limit or scanned >= MOST_SCANNED:
                self.end = ask.passed(self._upto + 1 if ask.backwards else self._after)
                return found
            size = max(SCAN_EVENTS, limit + 1 - len(found))

    def _wanted(self, seen: Sequence[Seen]) -> list[Seen]:
        filter = self._ask.filter
        found = [one for one in seen if wanted(filter, one[0]) and not is_ignored(one[0], self._ignored)]
        if self._held:
            found = [one for one in found if one[0].position not in self._held]
        if filter.related_by_rel_types is not None or filter.related_by_senders is not None:
            ids = [stored.event.event_id for stored, _ in found]
            parents = related_by(
                self._cursor, self._viewer.room_nid, ids, filter.related_by_rel_types, filter.related_by_senders
            )
            found = [one for one in found if one[0].event.event_id in parents]
        return found

    def _read(self, size: int) -> list[StoredEvent]:
        """The next piece: at least `size` events, or all that are left."""
        events: list[StoredEvent] = []
        if self._ask.backwards and self._held:
            # A handful, and all of it later than what follows.
            held = [position for position in self._held if position > self._after]
            events = placed_at(self._cursor, self._viewer.room_nid, held)[::-1]
            self._held = ()
        if self._upto > self._after and len(events) < size:
            events += timeline(
                self._cursor,
                self._viewer.room_nid,
                after=self._after,
                upto=self._upto,
                limit=size - len(events),
                backwards=self._ask.backwards,
            )
        return events

    def _move(self, position: int) -> None:
        if self._ask.backwards:
            self._upto = min(self._upto, position - 1)
        else:
            self._after = position

    def _skip_hidden(self, position: int) -> bool:
        """The reader saw nothing of a whole piece: go on where that can change. False if it never does."""
        turn = next_turn(self._cursor, self._viewer.room_nid, self._viewer.user_id, position, self._ask.backwards)
        if turn is None:
            return False
        if self._ask.backwards:
            self._upto = min(self._upto, turn)
        else:
            self._after = max(self._after, turn - 1)
        return True


def wanted(filter: EventFilter, stored: StoredEvent) -> bool:
    """Whether a client's filter lets an event through."""
    if filter.is_open:
        return True
    event = stored.event
    has_url = None if filter.contains_url is None else "url" in event.content
    return filter.admits(event.type, event.sender, has_url)

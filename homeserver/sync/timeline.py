"""The newest events of a room for one reader: from the room's window if it reaches back far enough, or from SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from homeserver.rooms.live import LiveRoom
from homeserver.rooms.tracing import Seen
from homeserver.rooms.visibility import Visibility
from homeserver.streams.tokens import MOST_HELD, RoomToken
from homeserver.sync.filters import NO_EVENT_FILTER, EventFilter
from homeserver.sync.first_look import is_one_line, last_by_graph
from storage import spans
from storage.database import Database
from storage.ports import StoredEvent

MAX_PAGES = 8
"""How often more is read for a filter that lets little through, before the timeline is called limited."""


class Timeline(msgspec.Struct, gc=False):
    """Events oldest first, each with the reader's membership at it."""

    events: list[Seen]
    start: RoomToken
    """Everything in the room behind this place, as far as the reader may see it and the filter wants it, is here."""
    limited: bool
    """There is more between `after` and `start`."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """The part of a room's stream that a reader wants: positions in (`after`, `upto`]."""

    after: int
    upto: int
    is_first: bool = False
    """The reader has nothing of the room: what it is shown ends as the room's graph does."""


class Page(msgspec.Struct, gc=False):
    """Some of a room's events, oldest first, and those among them that the viewer may see."""

    events: list[StoredEvent]
    seen: list[Seen]
    size: int
    """How many were asked for: where there are fewer, the span has no more."""


class Viewer(msgspec.Struct, frozen=True):
    """Who reads, and whose messages that person does not want to see."""

    user_id: str
    ignored: frozenset[str] = frozenset()


class Timelines:
    """Reads timelines for `/sync`."""

    def __init__(self, database: Database, visibility: Visibility) -> None:
        self._database = database
        self._visibility = visibility

    def from_window(self, room: LiveRoom, span: Span, size: int) -> list[StoredEvent] | None:
        """All the events of the span, or the newest `size` of them, oldest first; None where it needs SQL."""
        found: list[StoredEvent] = []
        for entry in reversed(room.window):
            if entry.position > span.upto:
                continue
            if entry.position <= span.after:
                break
            if entry.stored is not None:
                found.append(entry.stored)
                if len(found) == size:
                    break
        else:
            if room.window_floor > span.after:
                return None
        found.reverse()
        return found

    async def read_many(
        self,
        rooms: Mapping[int, LiveRoom],
        wanted: Mapping[int, Span],
        limit: int,
        viewer: Viewer,
        filter: EventFilter = NO_EVENT_FILTER,
    ) -> dict[int, Page]:
        """For every room the newest events of its span, and what of them the viewer may see: `limit + 1`, or some more
        where the order in which they came may not be the one in which to show them.

        One crossing at most for the events of all rooms, one for those that need more, and one for what decides who
        may see them.
        """
        sizes = dict.fromkeys(wanted, limit + 1)
        wide = [nid for nid, span in wanted.items() if span.is_first and not filter.is_open]
        sizes.update(dict.fromkeys(wide, limit + MOST_HELD))
        found = await self._read(rooms, wanted, sizes)
        forked = {
            nid: limit + MOST_HELD
            for nid, span in wanted.items()
            if span.is_first
            and len(found[nid]) == sizes[nid] == limit + 1
            and not is_one_line(found[nid], rooms[nid].visible.head.depth)
        }
        if forked:
            sizes.update(forked)
            found.update(await self._read(rooms, wanted, forked))
        nids = list(wanted)
        pages = [(rooms[nid], found[nid]) for nid in nids]
        seen = await self._visibility.filter_many(viewer.user_id, pages, viewer.ignored)
        return {nid: Page(found[nid], visible, sizes[nid]) for nid, visible in zip(nids, seen, strict=True)}

    async def _read(
        self, rooms: Mapping[int, LiveRoom], wanted: Mapping[int, Span], sizes: Mapping[int, int]
    ) -> dict[int, list[StoredEvent]]:
        """The newest events of these rooms' spans, at most so many of each."""
        found: dict[int, list[StoredEvent]] = {}
        cold: list[spans.Span] = []
        for nid, size in sizes.items():
            events = self.from_window(rooms[nid], wanted[nid], size)
            if events is None:
                cold.append((nid, wanted[nid].after, wanted[nid].upto, size))
            else:
                found[nid] = events
        if cold:
            found.update(await self._database.run(spans.newest_in_spans, cold))
        return found

    async def narrow(
        self,
        room: LiveRoom,
        viewer: Viewer,
        span: Span,
        newest: Page,
        filter: EventFilter,
        limit: int,
    ) -> Timeline:
        """What of the newest events the reader may see and the filter wants; reads further back if too little is."""
        page, seen, size = newest.events, newest.seen, newest.size
        more = len(page) >= size
        wanted: list[Seen] = []
        for _ in range(MAX_PAGES):
            if not filter.is_open:
                seen = [(stored, membership) for stored, membership in seen if admits(filter, stored)]
            wanted = seen + wanted
            if not more or len(wanted) > limit or (len(wanted) == limit and page is not newest.events):
                break
            end = page[0].position - 1
            page = (await self._database.run(spans.newest_in_spans, [(room.nid, span.after, end, size)]))[room.nid]
            more = len(page) >= size
            if not page:
                break
            seen = await self._visibility.filter(room, viewer.user_id, page, viewer.ignored)
        if len(wanted) <= limit and not more:
            return Timeline(wanted, RoomToken(span.after), False)
        if not limit:
            return Timeline([], RoomToken(span.upto), True)
        if not wanted:
            return Timeline([], RoomToken(page[0].position - 1 if page else span.upto), True)
        recent = wanted[-size:]
        shown = last_by_graph(recent, limit, room.visible.state) if span.is_first else recent[-limit:]
        return Timeline(list(shown), _start_of(shown, recent), True)


def _start_of(shown: Sequence[Seen], recent: Sequence[Seen]) -> RoomToken:
    """The place before a timeline: just before the first to come of what is shown, so that no event falls between.

    What came later than that and is not shown lies before it too.
    """
    positions = {stored.position for stored, _ in shown}
    start = min(positions) - 1
    later = (stored.position for stored, _ in recent if stored.position > start)
    return RoomToken(start, tuple(one for one in later if one not in positions))


def admits(filter: EventFilter, stored: StoredEvent) -> bool:
    event = stored.event
    has_url = None if filter.contains_url is None else isinstance(event.content.get("url"), str)
    return filter.admits(event.type, event.sender, has_url)

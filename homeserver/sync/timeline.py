"""The newest events of a room for one reader: from the room's window if it reaches back far enough, or from SQL."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from attrs import frozen

from homeserver.rooms.live import LiveRoom
from homeserver.rooms.tracing import Seen
from homeserver.rooms.visibility import Visibility
from homeserver.sync.filters import EventFilter
from storage import spans
from storage.database import Database
from storage.ports import StoredEvent

MAX_PAGES = 8
"""How often more is read for a filter that lets little through, before the timeline is called limited."""


class Timeline(msgspec.Struct, gc=False):
    """Events oldest first, each with the reader's membership at it. All lie in (`start`, `upto`]."""

    events: list[Seen]
    start: int
    """Everything in the room after this position, as far as the reader may see it and the filter wants it, is here."""
    limited: bool
    """There is more between `after` and `start`."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """The part of a room's stream that a reader wants: positions in (`after`, `upto`]."""

    after: int
    upto: int


class Page(msgspec.Struct, gc=False):
    """Some of a room's events, oldest first, and those among them that the viewer may see."""

    events: list[StoredEvent]
    seen: list[Seen]


@frozen
class Viewer:
    """Who reads, and whose messages that person does not want to see."""

    user_id: str
    ignored: frozenset[str] = frozenset()


class Timelines:
    """Reads timelines for `/sync`."""

    def __init__(self, database: Database, visibility: Visibility) -> None:
        self._database = database
        self._visibility = visibility

    def from_window(self, room: LiveRoom, span: Span, limit: int) -> list[StoredEvent] | None:
        """All the events of the span, or the newest `limit + 1` of them, oldest first; None where it needs SQL."""
        found: list[StoredEvent] = []
        for entry in reversed(room.window):
            if entry.position > span.upto:
                continue
            if entry.position <= span.after:
                break
            if entry.stored is not None:
                found.append(entry.stored)
                if len(found) > limit:
                    break
        else:
            if room.window_floor > span.after:
                return None
        found.reverse()
        return found

    async def read_many(
        self, rooms: Mapping[int, LiveRoom], wanted: Mapping[int, Span], limit: int, viewer: Viewer
    ) -> dict[int, Page]:
        """For every room the newest events of its span, at most `limit + 1`, and what of them the viewer may see.

        One crossing at most for the events of all rooms, and one for what decides who may see them.
        """
        found: dict[int, list[StoredEvent]] = {}
        cold: list[spans.Span] = []
        for nid, span in wanted.items():
            events = self.from_window(rooms[nid], span, limit)
            if events is None:
                cold.append((nid, span.after, span.upto))
            else:
                found[nid] = events
        if cold:
            found.update(await self._database.run(spans.newest_in_spans, cold, limit + 1))
        nids = list(wanted)
        pages = [(rooms[nid], found[nid]) for nid in nids]
        seen = await self._visibility.filter_many(viewer.user_id, pages, viewer.ignored)
        return {nid: Page(found[nid], visible) for nid, visible in zip(nids, seen, strict=True)}

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
        page, seen = newest.events, newest.seen
        more = len(page) > limit
        wanted: list[Seen] = []
        for _ in range(MAX_PAGES):
            is_whole = len(seen) == len(page)
            if not filter.is_open:
                seen = [(stored, membership) for stored, membership in seen if admits(filter, stored)]
            wanted = seen + wanted
            if not more or len(wanted) > limit or (len(wanted) == limit and page is not newest.events):
                break
            if filter.is_open and is_whole:
                break  # nothing was hidden: the page itself is the answer
            end = page[0].position - 1
            page = (await self._database.run(spans.newest_in_spans, [(room.nid, span.after, end)], limit + 1))[room.nid]
            more = len(page) > limit
            if not page:
                break
            seen = await self._visibility.filter(room, viewer.user_id, page, viewer.ignored)
        if len(wanted) > limit:
            wanted = wanted[len(wanted) - limit :]
            more = True
        if not more:
            return Timeline(wanted, span.after, False)
        # `prev_batch` lies just before the oldest event that is handed out, so that no event falls between.
        start = wanted[0][0].position - 1 if wanted else (page[0].position - 1 if page else span.upto)
        return Timeline(wanted, start, True)


def admits(filter: EventFilter, stored: StoredEvent) -> bool:
    event = stored.event
    has_url = None if filter.contains_url is None else isinstance(event.content.get("url"), str)
    return filter.admits(event.type, event.sender, has_url)

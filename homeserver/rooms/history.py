"""Reading a room's past: pages of its timeline, one event, and what stood around it.

Whatever is needed (events, what the reader may see of them, members to go with them, contents that state events
replaced) is read in one crossing, however much of a page is hidden or filtered away.

Spec: https://spec.matrix.org/v1.19/client-server-api/#syncing
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from attrs import frozen

from federation.room.event import StateKey
from federation.room.identifiers import InvalidIdentifier, parse_event_id
from homeserver.errors import Forbidden, NotFound
from homeserver.rooms.access import Access, RoomAccess
from homeserver.rooms.events import EventCache
from homeserver.rooms.visibility import Seen, Viewer, Visibility
from homeserver.streams.hub import Hub
from homeserver.sync.filters import EventFilter
from storage.database import Database
from storage.events import FIRST, LAST, load_by_ids, load_events, timeline
from storage.ports import Cursor, StoredEvent
from storage.state import read_state
from storage.visibility import next_turn

MOST_EVENTS = 1000
"""In one page, whatever the client asks for."""
SCAN_EVENTS = 100
"""How many events are read at once where the page that was asked for turned out to hold too few."""
MOST_SCANNED = 2000
"""Events that one request looks at where few are visible or wanted; then it answers with what it has."""


class Page(msgspec.Struct, gc=False):
    """A piece of a room's timeline, in the direction in which it was read."""

    events: list[Seen]
    start: int
    """Position in front of which the page begins (reading backwards: behind which)."""
    end: int | None
    """Where to read on; None where nothing visible follows."""
    state: list[StoredEvent] = msgspec.field(default_factory=list)
    """Member events of those who speak, for lazy loading."""
    replaced: dict[int, StoredEvent] = msgspec.field(default_factory=dict)
    """What state events on the page took the place of, by nid."""


class PageAsk(msgspec.Struct, frozen=True, gc=False):
    """Which page: from `start` towards `stop` (both between events; None: as far as there is anything)."""

    backwards: bool
    start: int | None
    stop: int | None
    limit: int
    filter: EventFilter


class Context(msgspec.Struct, gc=False):
    """An event and its neighbours."""

    event: Seen
    before: list[Seen]
    """Newest first."""
    after: list[Seen]
    start: int
    end: int
    state: list[StoredEvent]
    replaced: dict[int, StoredEvent]


@frozen
class History:
    """Reads the past of rooms for clients."""

    database: Database
    access: RoomAccess
    visibility: Visibility
    events: EventCache
    hub: Hub

    async def page(self, room_id: str, user_id: str, ask: PageAsk) -> Page:
        """One page of the timeline, as `GET /messages` tells it. Raises Forbidden."""
        access = await self.access.reader(room_id, user_id)
        room = access.room
        if ask.start is None and ask.backwards:
            ask = msgspec.structs.replace(ask, start=self.hub.position)
        if not ask.filter.admits_room(room_id) or ask.limit <= 0:
            start = ask.start or 0
            return Page([], start, None if ask.limit > 0 else start)
        await self.visibility.prepare([room])
        viewer = self.visibility.viewer(room, user_id)
        return await self.database.run(_read_page, self.visibility, viewer, access, ask)

    async def event(self, room_id: str, user_id: str, event_id: str) -> tuple[Seen, dict[int, StoredEvent]]:
        """One event, and what it replaced. Raises NotFound for everything that the user may not see, in rooms that
        are closed to it too.
        """
        try:
            room = (await self.access.reader(room_id, user_id)).room
        except Forbidden:
            raise _no_event() from None
        await self.visibility.prepare([room])
        viewer = self.visibility.viewer(room, user_id)
        found = await self.database.run(_read_event, self.visibility, viewer, event_id)
        if found is None:
            raise _no_event()
        return found

    async def context(self, room_id: str, user_id: str, event_id: str, limit: int, filter: EventFilter) -> Context:
        """An event with up to `limit` neighbours. Raises Forbidden for the room, NotFound for the event."""
        access = await self.access.reader(room_id, user_id)
        await self.visibility.prepare([access.room])
        viewer = self.visibility.viewer(access.room, user_id)
        found = await self.database.run(_read_context, self.visibility, viewer, event_id, limit, filter)
        if found is None:
            raise _no_event()
        return found


def _no_event() -> NotFound:
    return NotFound("There is no such event, or you may not see it")


# -- in a database thread ----------------------------------------------------------------------------------------


def _read_page(cursor: Cursor, visibility: Visibility, viewer: Viewer, access: Access, ask: PageAsk) -> Page:
    backwards = ask.backwards
    walk = _Walk(cursor, visibility, viewer, ask)
    if access.left is not None and not access.is_world_readable:
        walk.stop_after(access.left.position)
    found = walk.collect()
    start = ask.start
    if start is None:
        start = walk.first - 1 if walk.first is not None else 0
    page = Page(found, start, walk.end)
    if ask.filter.lazy_load_members and found:
        page.state = _members_of(cursor, found[0][0] if backwards else found[-1][0], (one[0] for one in found))
    page.replaced = _read_replaced(cursor, found)
    return page


class _Walk:
    """Reads a timeline piece by piece until enough of it is visible and wanted, or nothing more can be."""

    def __init__(self, cursor: Cursor, visibility: Visibility, viewer: Viewer, ask: PageAsk) -> None:
        self._cursor = cursor
        self._visibility = visibility
        self._viewer = viewer
        self._ask = ask
        if ask.backwards:
            self._after = FIRST if ask.stop is None else ask.stop
            self._upto = LAST if ask.start is None else ask.start
        else:
            self._after = FIRST if ask.start is None else ask.start
            self._upto = LAST if ask.stop is None else ask.stop
        self.first: int | None = None
        """Position of the first event that was looked at."""
        self.end: int | None = None
        """Where to read on; None where there is nothing more."""

    def stop_after(self, position: int) -> None:
        """Nothing past that position is for this reader."""
        self._upto = min(self._upto, position)

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
            for one in seen:
                if not wanted(ask.filter, one[0]):
                    continue
                if len(found) == limit:
                    # One more than was asked for: so there is a next page, and it begins here.
                    self.end = self._passed(found[-1][0].position)
                    return found
                found.append(one)
            if len(events) < size:
                return found
            self._move(events[-1].position)
            if not seen and not self._skip_hidden(events[-1].position):
                return found
            scanned += len(events)
            if len(found) == limit or scanned >= MOST_SCANNED:
                self.end = self._upto if ask.backwards else self._after
                return found
            size = max(SCAN_EVENTS, limit + 1 - len(found))

    def _read(self, size: int) -> list[StoredEvent]:
        if self._upto <= self._after:
            return []
        return timeline(
            self._cursor,
            self._viewer.room_nid,
            after=self._after,
            upto=self._upto,
            limit=size,
            backwards=self._ask.backwards,
        )

    def _passed(self, position: int) -> int:
        """The place behind the event at `position`, in reading direction."""
        return position - 1 if self._ask.backwards else position

    def _move(self, position: int) -> None:
        if self._ask.backwards:
            self._upto = position - 1
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


def _read_event(
    cursor: Cursor, visibility: Visibility, viewer: Viewer, event_id: str
) -> tuple[Seen, dict[int, StoredEvent]] | None:
    try:
        stored = load_by_ids(cursor, [parse_event_id(event_id)]).get(event_id)
    except InvalidIdentifier:
        return None
    if stored is None or stored.room_nid != viewer.room_nid:
        return None
    seen = visibility.seen_with(cursor, viewer, [stored])
    return (seen[0], _read_replaced(cursor, seen)) if seen else None


def _read_context(
    cursor: Cursor, visibility: Visibility, viewer: Viewer, event_id: str, limit: int, filter: EventFilter
) -> Context | None:
    found = _read_event(cursor, visibility, viewer, event_id)
    if found is None:
        return None
    event = found[0]
    position = event[0].position
    limit = max(0, min(limit, MOST_EVENTS))
    sides: list[list[Seen]] = []
    ends: list[int] = []
    for backwards, size in ((True, limit // 2), (False, limit - limit // 2)):
        start = position - 1 if backwards else position
        walk = _Walk(cursor, visibility, viewer, PageAsk(backwards, start, None, size, filter))
        side = walk.collect() if size else []
        sides.append(side)
        last = side[-1][0].position if side else position
        ends.append(last - 1 if backwards else last)
    before, after = sides
    shown = [one[0] for one in (*before, event, *after)]
    last_event = after[-1][0] if after else event[0]
    if filter.lazy_load_members:
        state = _state_without_members(cursor, last_event) + _members_of(cursor, last_event, shown)
    else:
        state = list(load_events(cursor, read_state(cursor, last_event.after).values()).values())
    return Context(
        event=event,
        before=before,
        after=after,
        start=ends[0],
        end=ends[1],
        state=[stored for stored in state if wanted(filter, stored)],
        replaced=_read_replaced(cursor, [*before, event, *after]),
    )


def _members_of(cursor: Cursor, at: StoredEvent, events: Iterable[StoredEvent]) -> list[StoredEvent]:
    """The senders' member events, as they were after the event `at`."""
    keys: list[StateKey] = [("m.room.member", sender) for sender in {stored.event.sender for stored in events}]
    nids = read_state(cursor, at.after, keys)
    return list(load_events(cursor, list(nids.values())).values())


def _state_without_members(cursor: Cursor, at: StoredEvent) -> list[StoredEvent]:
    nids = [nid for key, nid in read_state(cursor, at.after).items() if key[0] != "m.room.member"]
    return list(load_events(cursor, nids).values())


def _read_replaced(cursor: Cursor, seen: Sequence[Seen]) -> dict[int, StoredEvent]:
    nids = [stored.replaces for stored, _ in seen if stored.replaces]
    return load_events(cursor, nids) if nids else {}


def wanted(filter: EventFilter, stored: StoredEvent) -> bool:
    """Whether a client's filter lets an event through."""
    if filter.is_open:
        return True
    event = stored.event
    has_url = None if filter.contains_url is None else "url" in event.content
    return filter.admits(event.type, event.sender, has_url)

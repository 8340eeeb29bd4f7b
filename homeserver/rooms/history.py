"""Reading a room's past: pages of its timeline, one event, and what stood around it.

Whatever is needed (events, what the reader may see of them, what state events replaced) is read in one crossing,
however much of a page is hidden or filtered away; the state that goes with it comes from memory while the room is in
use.

Spec: https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from attrs import field

from federation.room.event import StateKey
from federation.room.identifiers import InvalidIdentifier, parse_event_id
from federation.service import service
from homeserver.errors import Forbidden, NotFound
from homeserver.rooms.access import Access, RoomAccess
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.paging import MOST_EVENTS, PageAsk, Walk, wanted
from homeserver.rooms.past import NoPast, Past
from homeserver.rooms.tracing import STILL, Seen, Viewer, without_later
from homeserver.rooms.visibility import Visibility
from homeserver.streams.hub import Hub
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import EventFilter
from homeserver.userdata.ignoring import Ignorance
from storage.database import Database
from storage.events import FIRST, LAST, load_by_ids, load_events
from storage.gaps import Gap, find_gap
from storage.ports import Cursor, StoredEvent
from storage.state import read_state

MOST_PIECES = 5
"""Of the past, that are fetched for one page."""

__all__ = ["Context", "History", "One", "Page", "PageAsk"]


class Page(msgspec.Struct, gc=False):
    """A piece of a room's timeline, in the direction in which it was read."""

    room: LiveRoom
    events: list[Seen]
    start: RoomToken
    """The place in front of which the page begins (reading backwards: behind which)."""
    end: RoomToken | None
    """Where to read on; None where nothing visible follows."""
    state: list[StoredEvent] = msgspec.field(default_factory=list)
    """Member events of those who speak, for lazy loading."""
    replaced: dict[int, StoredEvent] = msgspec.field(default_factory=dict)
    """What state events on the page took the place of, by nid."""


class One(msgspec.Struct, gc=False):
    """One event."""

    room: LiveRoom
    event: Seen
    replaced: dict[int, StoredEvent]
    """As in `Page`."""


class Context(msgspec.Struct, gc=False):
    """An event and its neighbours."""

    room: LiveRoom
    event: Seen
    before: list[Seen]
    """Newest first."""
    after: list[Seen]
    start: int
    end: int
    replaced: dict[int, StoredEvent]
    """As in `Page`."""
    state: list[StoredEvent] = msgspec.field(default_factory=list)
    """The state at the last event, as much of it as the filter wants."""


@service
class History:
    """Reads the past of rooms for clients."""

    database: Database
    access: RoomAccess
    visibility: Visibility
    events: EventCache
    hub: Hub
    ignoring: Ignorance
    past: Past = field(factory=NoPast)

    async def page(self, room_id: str, user_id: str, ask: PageAsk) -> Page:
        """One page of the timeline, as `GET /messages` tells it. Raises Forbidden."""
        access = await self.access.reader(room_id, user_id)
        room = access.room
        if ask.start is None and ask.backwards:
            ask = msgspec.structs.replace(ask, start=RoomToken(self.hub.position))
        if not ask.filter.admits_room(room_id) or ask.limit <= 0:
            start = ask.start or RoomToken(0)
            return Page(room, [], start, None if ask.limit > 0 else start)
        await self.visibility.prepare([room])
        ignored = await self.ignoring.of(user_id)
        viewer = self.visibility.viewer(room, user_id)
        page, members, gap = await self.database.run(_read_page, self.visibility, viewer, access, ask, ignored, None)
        pieces = 0
        while gap is not None and access.is_member and pieces < MOST_PIECES:
            pieces += 1
            # Of a gap that can't be had the page tells nothing; the next one may be another matter.
            passed = None if await self.past.extend(room, gap) else gap.position
            read = await self.database.run(_read_page, self.visibility, viewer, access, ask, ignored, passed)
            page, members, gap = read
        if ask.backwards and page.end is None and access.is_member:
            page.end = await self._end_before_gap(page, ask)
        if page.end is None and page.events and not ask.filter.is_open:
            # Clients that look for something take a page with nothing on it for the end, and not a missing token
            # beside what they found.
            page.end = ask.passed(page.events[-1][0].position)
        page.state = await self._load(members, access)
        return page

    async def event(self, room_id: str, user_id: str, event_id: str) -> One:
        """One event. Raises NotFound for everything that the user may not see, in rooms that
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
        return One(room, *found)

    async def room_of(self, event_id: str) -> str:
        """The id of the room that an event is in, which does not say that anybody may see it. Raises NotFound."""
        try:
            found = await self.database.run(load_by_ids, [parse_event_id(event_id)])
        except InvalidIdentifier:
            raise _no_event() from None
        if event_id not in found:
            raise _no_event()
        return found[event_id].event.room_id

    async def context(self, room_id: str, user_id: str, event_id: str, limit: int, filter: EventFilter) -> Context:
        """An event with up to `limit` neighbours. Raises Forbidden for the room, NotFound for the event."""
        reader = self.access.reader if filter.lazy_load_members else self.access.reader_of_whole
        access = await reader(room_id, user_id)
        await self.visibility.prepare([access.room])
        around_it = _Around(access.room, event_id, limit, filter, await self.ignoring.of(user_id))
        viewer = self.visibility.viewer(access.room, user_id)
        found = await self.database.run(_read_context, self.visibility, viewer, around_it)
        if found is None:
            raise _no_event()
        around, state = found
        around.state = [stored for stored in await self._load(state, access) if wanted(filter, stored)]
        return around

    async def _end_before_gap(self, page: Page, ask: PageAsk) -> RoomToken | None:
        """Where to read on, at the beginning of all that is here: None where there is nothing before that."""
        after = FIRST if ask.stop is None else ask.stop
        front = await self.database.run(find_gap, page.room.nid, after=after, upto=page.start.position + 1, last=False)
        if front is None or not self.past.can_extend(page.room, front):
            return None
        return ask.passed(page.events[-1][0].position if page.events else front.position)

    async def _load(self, nids: Sequence[int], access: Access) -> list[StoredEvent]:
        """State events, of which most are in memory while the room is in use."""
        found = await self.events.get_many(nids)
        until = STILL if access.left is None or access.is_world_readable else access.left.position
        return [without_later(found[nid], until) for nid in nids if nid in found]


def _no_event() -> NotFound:
    return NotFound("There is no such event, or you may not see it")


# -- in a database thread ----------------------------------------------------------------------------------------


def _read_page(
    cursor: Cursor,
    visibility: Visibility,
    viewer: Viewer,
    access: Access,
    ask: PageAsk,
    ignored: frozenset[str],
    passed: int | None,
) -> tuple[Page, list[int], Gap | None]:
    """The page, the member events that go with it, and a gap in it, if there is one: that to which the reader comes
    first, after the one at the position `passed`.
    """
    backwards = ask.backwards
    walk = Walk(cursor, visibility, viewer, ask, ignored)
    if access.left is not None and not access.is_world_readable:
        walk.stop_after(access.left.position)
    found = walk.collect()
    start = ask.start
    if start is None:
        start = RoomToken(walk.first - 1 if walk.first is not None else 0)
    members: list[int] = []
    if ask.filter.lazy_load_members and found:
        members = _members_of(cursor, found[0][0] if backwards else found[-1][0], (one[0] for one in found))
    page = Page(access.room, found, start, walk.end, replaced=_read_replaced(cursor, found))
    after, upto = _stretch(page, ask)
    if passed is not None:
        after, upto = (after, passed - 1) if backwards else (passed, upto)
    return page, members, find_gap(cursor, viewer.room_nid, after=after, upto=upto, last=backwards)


def _stretch(page: Page, ask: PageAsk) -> tuple[int, int]:
    """In front of which events, by position, something that is missing would stand on this page."""
    start, end = page.start.position, None if page.end is None else page.end.position
    if not ask.backwards:
        last = end if end is not None else ask.stop
        return start, LAST if last is None else last
    if end is not None:
        return end + 1, start + 1
    if len(page.events) >= ask.limit:
        return page.events[-1][0].position, start + 1
    return FIRST if ask.stop is None else ask.stop, start + 1


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


class _Around(msgspec.Struct, frozen=True, gc=False):
    """What is asked for with an event."""

    room: LiveRoom
    event_id: str
    limit: int
    filter: EventFilter
    ignored: frozenset[str]


def _read_context(
    cursor: Cursor, visibility: Visibility, viewer: Viewer, ask: _Around
) -> tuple[Context, list[int]] | None:
    """An event with its neighbours, and the state events that go with them."""
    found = _read_event(cursor, visibility, viewer, ask.event_id)
    if found is None:
        return None
    event = found[0]
    position = event[0].position
    limit = max(0, min(ask.limit, MOST_EVENTS))
    sides: list[list[Seen]] = []
    ends: list[int] = []
    for backwards, size in ((True, limit // 2), (False, limit - limit // 2)):
        start = position - 1 if backwards else position
        walk = Walk(
            cursor, visibility, viewer, PageAsk(backwards, RoomToken(start), None, size, ask.filter), ask.ignored
        )
        side = walk.collect() if size else []
        sides.append(side)
        last = side[-1][0].position if side else position
        ends.append(last - 1 if backwards else last)
    before, after = sides
    shown = [one[0] for one in (*before, event, *after)]
    last_event = after[-1][0] if after else event[0]
    if ask.filter.lazy_load_members:
        state = [nid for key, nid in read_state(cursor, last_event.after).items() if key[0] != "m.room.member"]
        state += _members_of(cursor, last_event, shown)
    else:
        state = list(read_state(cursor, last_event.after).values())
    around = Context(
        room=ask.room,
        event=event,
        before=before,
        after=after,
        start=ends[0],
        end=ends[1],
        replaced=_read_replaced(cursor, [*before, event, *after]),
    )
    return around, state


def _members_of(cursor: Cursor, at: StoredEvent, events: Iterable[StoredEvent]) -> list[int]:
    """The senders' member events, as they were after the event `at`."""
    keys: list[StateKey] = [("m.room.member", sender) for sender in {stored.event.sender for stored in events}]
    return list(read_state(cursor, at.after, keys).values())


def _read_replaced(cursor: Cursor, seen: Sequence[Seen]) -> dict[int, StoredEvent]:
    nids = [stored.replaces for stored, _ in seen if stored.replaces]
    return load_events(cursor, nids) if nids else {}

"""Lists of what hangs on one event, page by page; and of all its versions.

Spec: https://spec.matrix.org/v1.19/client-server-api/#relationships-api
"""

from __future__ import annotations

import msgspec

from federation.room.relations import REPLACE, is_edit_of
from federation.service import service
from homeserver.rooms.access import Access, RoomAccess
from homeserver.rooms.history import History, One
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.related import edit_order
from homeserver.rooms.tracing import Seen, Viewer
from homeserver.rooms.visibility import Visibility, without_ignored
from homeserver.userdata.ignoring import Ignorance
from storage import relations as rows
from storage.database import Database
from storage.events import FIRST, LAST, load_events
from storage.ports import Cursor, StoredEvent

MOST_EVENTS = 1000
"""In one page, whatever the client asks for."""
MOST_SCANNED = 2000
"""Events that one request looks at where few are visible; then it answers with what it has."""
MOST_EDITS = 1000


class RelationsAsk(msgspec.Struct, frozen=True, gc=False):
    """Which page of what hangs on an event: from `start` towards `stop` (None: as far as there is anything)."""

    room_id: str
    event_id: str
    rel_type: str | None
    event_type: str | None
    backwards: bool
    start: int | None
    stop: int | None
    limit: int
    recurse: bool


class RelationsPage(msgspec.Struct, gc=False):
    """A page, in the direction in which it was read."""

    room: LiveRoom
    events: list[Seen]
    end: int | None
    """Where to read on; None where nothing follows."""
    replaced: dict[int, StoredEvent]
    """What state events among them took the place of, by nid."""


@service
class Relations:
    """Reads what hangs on events."""

    database: Database
    access: RoomAccess
    visibility: Visibility
    history: History
    ignoring: Ignorance

    async def page(self, user_id: str, ask: RelationsAsk) -> RelationsPage:
        """Events under another one that the user may see and wants to. Raises NotFound for an event that it can't see,
        in rooms that are closed to it too.
        """
        parent = await self.history.event(ask.room_id, user_id, ask.event_id)
        access = await self.access.reader(ask.room_id, user_id)
        if not ask.limit:
            return RelationsPage(parent.room, [], None, {})
        if ask.start is None and ask.backwards:
            ask = msgspec.structs.replace(ask, start=self.history.hub.position)
        viewer = self.visibility.viewer(access.room, user_id)
        ignored = await self.ignoring.of(user_id)
        events, end = await self.database.run(_read_page, self.visibility, viewer, access, ask, ignored)
        replaced = await self.history.events.get_many([stored.replaces for stored, _ in events if stored.replaces])
        return RelationsPage(parent.room, events, end, replaced)

    async def versions(self, room_id: str, user_id: str, event_id: str) -> list[StoredEvent]:
        """An event and all its edits that the user may see, the oldest version first. Raises NotFound."""
        found = await self.history.event(room_id, user_id, event_id)
        viewer = self.visibility.viewer(found.room, user_id)
        return await self.database.run(_read_versions, self.visibility, viewer, found)


# -- in a database thread ----------------------------------------------------------------------------------------


def _read_page(
    cursor: Cursor,
    visibility: Visibility,
    viewer: Viewer,
    access: Access,
    ask: RelationsAsk,
    ignored: frozenset[str],
) -> tuple[list[Seen], int | None]:
    lower, upper = (ask.stop, ask.start) if ask.backwards else (ask.start, ask.stop)
    after, upto = FIRST if lower is None else lower, LAST if upper is None else upper
    if access.left is not None and not access.is_world_readable:
        upto = min(upto, access.left.position)
    limit = min(ask.limit, MOST_EVENTS)
    found: list[Seen] = []
    scanned = 0
    while after < upto:
        wanted = rows.Wanted(
            room_nid=viewer.room_nid,
            parent_id=ask.event_id,
            after=after,
            upto=upto,
            rel_type=ask.rel_type,
            event_type=ask.event_type,
            backwards=ask.backwards,
            deepest=rows.DEEPEST if ask.recurse else 1,
        )
        piece = rows.list_children(cursor, wanted, limit + 1)
        events = load_events(cursor, [child.nid for child in piece])
        ordered = [events[child.nid] for child in piece if child.nid in events]
        for one in without_ignored(visibility.seen_with(cursor, viewer, ordered), ignored):
            if len(found) == limit:
                # One more than was asked for: so there is a next page.
                last = found[-1][0].position
                return found, last - 1 if ask.backwards else last
            found.append(one)
        if len(piece) <= limit:
            return found, None
        if ask.backwards:
            upto = piece[-1].position - 1
        else:
            after = piece[-1].position
        scanned += len(piece)
        if len(found) == limit or scanned >= MOST_SCANNED:
            return found, upto if ask.backwards else after
    return found, None


def _read_versions(cursor: Cursor, visibility: Visibility, viewer: Viewer, found: One) -> list[StoredEvent]:
    original = found.event[0]
    wanted = rows.Wanted(viewer.room_nid, original.event.event_id, FIRST, LAST, REPLACE, original.event.type)
    events = load_events(cursor, [child.nid for child in rows.list_children(cursor, wanted, MOST_EDITS)])
    ordered = sorted(events.values(), key=lambda stored: stored.position)
    seen = [stored for stored, _ in visibility.seen_with(cursor, viewer, ordered)]
    edits = [stored for stored in seen if is_edit_of(stored.event, original.event)]
    return [original, *sorted(edits, key=edit_order)]

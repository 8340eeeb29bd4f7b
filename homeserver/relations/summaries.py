"""Looks up what hangs on events: from the room's memory where it is there, else from the database in one crossing.

A summary is the same for all who may see everything in a room. For others (who ignore somebody, who were away for a
while, who are not in the room) it is made of what they may see, each time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from attrs import frozen

from federation.room.relations import THREAD, is_edit_of, may_have_thread
from federation.service import service
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.related import Summary, Thread
from homeserver.rooms.tracing import Viewer
from homeserver.rooms.visibility import Visibility
from storage import relations as rows
from storage.database import Database
from storage.events import FIRST, LAST, load_by_ids, load_events
from storage.ports import Cursor, StoredEvent

PIECE = 500
MOST_PIECES = 10
"""How far a thread is counted for those who don't see all of a room: so many pieces of so many events from its end."""

Parents = Sequence[tuple[LiveRoom, Sequence[StoredEvent]]]
"""Events that are shown, by room."""


@service
class Summaries:
    """Knows what hangs on events."""

    database: Database
    visibility: Visibility
    server_name: str

    async def of(self, parents: Parents) -> dict[str, Summary]:
        """For those who see everything of the rooms. What hangs on a thread's newest event is there too."""
        found: dict[str, Summary] = {}
        missing: list[StoredEvent] = []
        before = [(room, room.related.changes) for room, _ in parents]
        for room, events in parents:
            for stored in events:
                if stored.event.state_key is None:
                    self._recall(room, stored, found, missing)
        if missing:
            read = await self.database.run(_read, missing, self.server_name)
            found.update((event_id, summary) for event_id, summary in read.items() if not summary.is_empty)
            for room, changes in before:
                room.related.keep((one for one in read.values() if one.parent.room_nid == room.nid), changes)
        return found

    async def for_some(
        self, user_id: str, parents: Parents, ignored: frozenset[str], open_rooms: Container[int]
    ) -> dict[str, Summary]:
        """For somebody who does not see everything: who ignores people, or may not see all of a room. `open_rooms`
        (nids): whom it ignores is all that keeps it from seeing those whole.
        """
        if not parents:
            return {}
        viewers = {room.nid: self.visibility.viewer(room, user_id) for room, _ in parents}
        asked = [stored for _, events in parents for stored in events]
        return await self.database.run(_read_for, asked, self.visibility, viewers, ignored, open_rooms)

    def _recall(
        self, room: LiveRoom, stored: StoredEvent, found: dict[str, Summary], missing: list[StoredEvent]
    ) -> None:
        summary = room.related.peek(stored.event.event_id)
        if summary is None:
            missing.append(stored)
        elif not summary.is_empty:
            found[stored.event.event_id] = summary
            if summary.thread is not None:
                self._recall(room, summary.thread.latest, found, missing)


# -- in a database thread ----------------------------------------------------------------------------------------


def _read(cursor: Cursor, parents: Sequence[StoredEvent], server_name: str) -> dict[str, Summary]:
    """Every parent's summary, and those of the threads' newest events."""
    found = _read_step(cursor, parents, server_name)
    latest = [one.thread.latest for one in found.values() if one.thread is not None]
    more = [stored for stored in latest if stored.event.event_id not in found]
    return {**found, **_read_step(cursor, more, server_name)} if more else found


def _read_step(cursor: Cursor, parents: Sequence[StoredEvent], server_name: str) -> dict[str, Summary]:
    children = rows.children_of(cursor, parents)
    threads = {
        stored.event.event_id: (stored.room_nid, told.thread.latest)
        for stored in parents
        if (told := children.get(stored.event.event_id)) is not None and told.thread is not None
    }
    newest = rows.at_positions(cursor, threads)
    nids = {*newest.values(), *(told.edits[0] for told in children.values() if told.edits)}
    events = load_events(cursor, nids)
    suffix = ":" + server_name
    found: dict[str, Summary] = {}
    for stored in parents:
        event_id = stored.event.event_id
        told = children.get(event_id)
        if told is None:
            found[event_id] = Summary(stored)
            continue
        thread = None
        if told.thread is not None and event_id in newest and may_have_thread(stored.event):
            speakers = rows.speakers(cursor, stored.room_nid, event_id)
            local = frozenset(user_id for user_id in speakers if user_id.endswith(suffix))
            thread = Thread(told.thread.replies, events[newest[event_id]], local)
        edit = _newest_edit(stored, told.edits[:1], events)
        found[event_id] = Summary(stored, edit, thread, tuple(told.references))
    return found


def _newest_edit(parent: StoredEvent, edits: Sequence[int], events: Mapping[int, StoredEvent]) -> StoredEvent | None:
    """The first of the edits (newest first) that is at hand and valid."""
    for nid in edits:
        edit = events.get(nid)
        if edit is not None and is_edit_of(edit.event, parent.event):
            return edit
    return None


@frozen
class _Limits:
    """What keeps a reader from seeing everything, in one transaction."""

    _cursor: Cursor
    _visibility: Visibility
    _viewers: Mapping[int, Viewer]
    _ignored: frozenset[str]
    _open_rooms: Container[int]

    def seen(self, events: Iterable[StoredEvent]) -> list[StoredEvent]:
        """Those that the reader may see and wants to, of one room, by position."""
        ordered = sorted(events, key=lambda stored: stored.position)
        if not ordered:
            return []
        room_nid = ordered[0].room_nid
        if room_nid not in self._open_rooms:
            pairs = self._visibility.seen_with(self._cursor, self._viewers[room_nid], ordered)
            ordered = [stored for stored, _ in pairs]
        return [stored for stored in ordered if stored.event.sender not in self._ignored]

    def thread(self, root: StoredEvent) -> Thread | None:
        if not may_have_thread(root.event):
            return None
        root_id, room_nid = root.event.event_id, root.room_nid
        me = self._viewers[room_nid].user_id
        speakers = rows.speakers(self._cursor, room_nid, root_id) & {me}
        if room_nid in self._open_rooms:
            row = rows.thread_without(self._cursor, room_nid, root_id, self._ignored)
            if row is None:
                return None
            nid = rows.at_positions(self._cursor, {root_id: (room_nid, row.latest)})[root_id]
            return Thread(row.replies, load_events(self._cursor, [nid])[nid], frozenset(speakers))
        replies = 0
        latest: StoredEvent | None = None
        wanted = rows.Wanted(room_nid, root_id, FIRST, LAST, THREAD)
        for _ in range(MOST_PIECES):
            piece = rows.list_children(self._cursor, wanted, PIECE)
            seen = self.seen(load_events(self._cursor, [child.nid for child in piece]).values())
            replies += len(seen)
            latest = latest or (seen[-1] if seen else None)
            if len(piece) < PIECE:
                break
            wanted = rows.Wanted(room_nid, root_id, FIRST, piece[-1].position - 1, THREAD)
        return None if latest is None else Thread(replies, latest, frozenset(speakers))

    def edit(self, parent: StoredEvent, nids: Sequence[int]) -> StoredEvent | None:
        seen = {stored.nid: stored for stored in self.seen(load_events(self._cursor, nids).values())}
        return _newest_edit(parent, nids, seen)

    def references(self, event_ids: Sequence[str]) -> tuple[str, ...]:
        seen = self.seen(load_by_ids(self._cursor, event_ids).values())
        return tuple(stored.event.event_id for stored in seen)


def _read_for(
    cursor: Cursor,
    parents: Sequence[StoredEvent],
    visibility: Visibility,
    viewers: Mapping[int, Viewer],
    ignored: frozenset[str],
    open_rooms: Container[int],
) -> dict[str, Summary]:
    limits = _Limits(cursor, visibility, viewers, ignored, open_rooms)
    found: dict[str, Summary] = {}
    waiting = list(parents)
    while waiting:
        children = rows.children_of(cursor, waiting)
        more: list[StoredEvent] = []
        for stored in waiting:
            told = children.get(stored.event.event_id)
            if told is None:
                continue
            thread = None if told.thread is None else limits.thread(stored)
            edit = limits.edit(stored, told.edits)
            summary = Summary(stored, edit, thread, limits.references(told.references))
            if not summary.is_empty:
                found[stored.event.event_id] = summary
            if thread is not None and thread.latest.event.event_id not in found:
                more.append(thread.latest)
        waiting = more
    return found

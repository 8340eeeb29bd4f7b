"""The threads of a room, those that were spoken in last in front.

Spec: https://spec.matrix.org/v1.19/client-server-api/#querying-threads-in-a-room
"""

from __future__ import annotations

import msgspec

from federation.room.redaction import redact_event
from federation.room.relations import may_have_thread
from federation.service import service
from homeserver.relations.bundles import Bundles
from homeserver.rooms.access import Access, RoomAccess
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.tracing import Seen, Viewer
from homeserver.rooms.visibility import Visibility
from homeserver.userdata.ignoring import Ignorance
from storage import relations as rows
from storage.database import Database
from storage.events import LAST, load_by_ids
from storage.ports import Cursor, StoredEvent

DEFAULT_LIMIT = 20
MOST_THREADS = 100
"""In one page, whatever the client asks for."""
PIECE = 100
MOST_PIECES = 10
"""How many threads one request looks at where few are visible or wanted."""


class ThreadsAsk(msgspec.Struct, frozen=True, gc=False):
    """Which page: threads of which the newest event lies before `before` (None: all)."""

    room_id: str
    before: int | None
    limit: int
    participated: bool
    """Only those that the reader began or spoke in."""


class ThreadsPage(msgspec.Struct, gc=False):
    """Roots of threads as the reader is shown them, as JSON."""

    roots: list[bytes]
    end: int | None
    """For `ThreadsAsk.before`; None where nothing follows."""


@service
class ThreadList:
    """Lists threads."""

    database: Database
    access: RoomAccess
    visibility: Visibility
    bundles: Bundles
    ignoring: Ignorance

    async def page(self, reader: Reader, ask: ThreadsAsk) -> ThreadsPage:
        """One page. Raises Forbidden."""
        access = await self.access.reader(ask.room_id, reader.user_id)
        room = access.room
        await self.visibility.prepare([room])
        ignored = await self.ignoring.of(reader.user_id)
        limit = min(ask.limit, MOST_THREADS)
        made: list[bytes] = []
        before = LAST if ask.before is None else ask.before
        for _ in range(MOST_PIECES):
            viewer = self.visibility.viewer(room, reader.user_id)
            piece = await self.database.run(_read_piece, self.visibility, viewer, access, before, ask.participated)
            bundled = await self.bundles.of(reader, [(room, [stored for (stored, _), _ in piece.roots])])
            for (root, membership), latest in piece.roots:
                if b'"m.thread":' not in bundled.parts.get(root.nid, b""):
                    continue  # nothing of it is for this reader
                if len(made) == limit:
                    return ThreadsPage(made, before)
                shown = root if root.event.sender not in ignored else _redacted(room, root)
                as_read = Reader(
                    reader.user_id, reader.device_id, reader.now_ms, bundled={root.nid: bundled.parts[root.nid]}
                )
                made.append(client_event(shown, as_read, membership=membership))
                before = latest
            if piece.end is None:
                return ThreadsPage(made, None)
            before = piece.end
            if len(made) == limit:
                break
        return ThreadsPage(made, before)


class _Piece(msgspec.Struct, gc=False):
    roots: list[tuple[Seen, int]]
    """Visible roots, and where the newest events of their threads are."""
    end: int | None


def _read_piece(
    cursor: Cursor, visibility: Visibility, viewer: Viewer, access: Access, before: int, participated: bool
) -> _Piece:
    participant = viewer.user_id if participated else None
    found = rows.list_threads(cursor, viewer.room_nid, before, PIECE, participant)
    events = load_by_ids(cursor, [thread.root_id for thread in found])
    roots: list[tuple[StoredEvent, int]] = []
    for thread in found:
        root = events.get(thread.root_id)
        if root is not None and root.room_nid == viewer.room_nid and may_have_thread(root.event):
            roots.append((root, thread.latest))
    ordered = sorted((root for root, _ in roots), key=lambda stored: stored.position)
    seen = {one[0].nid: one for one in visibility.seen_with(cursor, viewer, ordered)}
    return _Piece(
        [(seen[root.nid], latest) for root, latest in roots if root.nid in seen],
        found[-1].latest if len(found) == PIECE else None,
    )


def _redacted(room: LiveRoom, root: StoredEvent) -> StoredEvent:
    """The root of a thread by somebody whom the reader ignores: what hangs on it is not theirs."""
    return msgspec.structs.replace(root, event=redact_event(room.version, root.event), txn_id=None)

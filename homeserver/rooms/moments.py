"""Which event of a room is closest to a moment: here, or by what peers know of a gap that the moment falls into.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field

from federation.service import service
from federation.wire.rooms import TimedEvent
from homeserver.errors import NotFound
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.past import Moment, NoPast, Past
from homeserver.rooms.tracing import Viewer
from homeserver.rooms.visibility import Visibility, is_ignored
from homeserver.userdata.ignoring import Ignorance
from storage.database import Database
from storage.events import FIRST, LAST, nearest
from storage.gaps import Gap, find_gap
from storage.ports import Cursor, StoredEvent

FIRST_LOOK = 5
"""Events that are looked at, at first; the closest one is seen by nearly everybody."""
MOST_LOOKED_AT = 2_000
FURTHEST = 1 << 53
"""Times beyond are as good as that one: no event can claim to be of them."""


@service
class Moments:
    """Finds events by time, for people."""

    database: Database
    access: RoomAccess
    visibility: Visibility
    ignoring: Ignorance
    past: Past = field(factory=NoPast)

    async def closest(self, room_id: str, user_id: str, ts: int, *, backwards: bool) -> TimedEvent:
        """The first event at that time or after it that the user may see; or the last one at it or before.

        Raises Forbidden for the room, NotFound where there is no such event.
        """
        moment = Moment(max(-FURTHEST, min(ts, FURTHEST)), backwards)
        access = await self.access.reader(room_id, user_id)
        room = access.room
        await self.visibility.prepare([room])
        viewer = self.visibility.viewer(room, user_id)
        ignored = await self.ignoring.of(user_id)
        found, gap = await self.database.run(_read, self.visibility, viewer, moment, ignored)
        distance_ms = None if found is None else abs(found.event.origin_server_ts - moment.ts)
        if gap is not None and access.is_member and distance_ms != 0:
            await self.past.reach(room, gap, moment, distance_ms)
            found, _ = await self.database.run(_read, self.visibility, viewer, moment, ignored)
        if found is None:
            raise no_event(ts, backwards=backwards)
        return TimedEvent(found.event.event_id, found.event.origin_server_ts)


def no_event(ts: int, *, backwards: bool) -> NotFound:
    return NotFound(f"Unable to find event from {ts} in {'backward' if backwards else 'forward'} direction")


def candidates(cursor: Cursor, room_nid: int, moment: Moment) -> Iterator[list[StoredEvent]]:
    """Events of a room in larger and larger pieces, those first that are closest to the moment in its direction."""
    at = (moment.ts, LAST if moment.backwards else FIRST)
    size, looked_at = FIRST_LOOK, 0
    while looked_at < MOST_LOOKED_AT:
        piece = nearest(cursor, room_nid, at, size, backwards=moment.backwards)
        if piece:
            yield piece
        if len(piece) < size:
            return
        at = (piece[-1].event.origin_server_ts, piece[-1].position)
        looked_at += size
        size *= 4


def _read(
    cursor: Cursor, visibility: Visibility, viewer: Viewer, moment: Moment, ignored: frozenset[str]
) -> tuple[StoredEvent | None, Gap | None]:
    """The closest event that the viewer sees, and the gap that the moment falls into, if there is one."""
    found: StoredEvent | None = None
    for piece in candidates(cursor, viewer.room_nid, moment):
        in_order = sorted(piece, key=lambda stored: stored.position)
        seen = {one[0].nid: one[0] for one in visibility.seen_with(cursor, viewer, in_order)}
        shown = (seen[stored.nid] for stored in piece if stored.nid in seen and not is_ignored(stored, ignored))
        found = next(shown, None)
        if found is not None:
            break
    return found, gap_at(cursor, viewer.room_nid, moment.ts)


def gap_at(cursor: Cursor, room_nid: int, ts: int) -> Gap | None:
    """What is missing between the last event at a time or before and the first one after; the latest such gap."""
    before = nearest(cursor, room_nid, (ts, LAST), 1, backwards=True)
    after = nearest(cursor, room_nid, (ts, LAST), 1, backwards=False)
    low = before[0].position if before else FIRST
    high = after[0].position if after else LAST
    return find_gap(cursor, room_nid, after=low, upto=high)

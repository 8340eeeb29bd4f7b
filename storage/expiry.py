"""Messages that are over: finding the old ones, and taking away what they said.

What is left of one is its place in the room's graph, in redacted form, which no timeline shows any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from federation.room.redaction import redact_event
from federation.room.relations import REPLACE
from federation.room.versions import ROOM_VERSIONS
from storage import events, relations, retention
from storage.append import EXPIRED
from storage.ports import Cursor
from storage.relations import Wanted
from storage.sql import among

MOST_EDITS = 1_000
"""Of one message, that go with it."""

Place = tuple[int, int]
"""(when an event claims to be of, in ms since 1970; position)"""

BEGINNING: Place = (-(2**62), -(2**62))


def all_rooms(cursor: Cursor, after: int, limit: int) -> list[int]:
    """Room nids above `after`, in order."""
    rows = cursor.execute("SELECT nid FROM rooms WHERE nid > ? ORDER BY nid LIMIT ?", (after, limit)).fetchall()
    return [nid for (nid,) in rows]


def messages_before(
    cursor: Cursor, room_nid: int, before_ts: int, after: Place, limit: int
) -> tuple[list[int], Place | None]:
    """A page of a room's messages that claim to be of before a time, and where the next page begins; None: no more."""
    rows = cursor.execute(
        "SELECT nid, key_nid, origin_ts, position FROM events WHERE room_nid = ? AND position IS NOT NULL AND flags = 0"
        " AND (origin_ts, position) > (?, ?) AND origin_ts < ? ORDER BY origin_ts, position LIMIT ?",
        (room_nid, *after, before_ts, limit),
    ).fetchall()
    found = [nid for nid, key_nid, _, _ in rows if key_nid is None]
    return found, (rows[-1][2], rows[-1][3]) if len(rows) == limit else None


def expire(cursor: Cursor, room_nid: int, event_nids: Collection[int]) -> list[int]:
    """Take away what messages said, and their edits with them. The nids of all of those. For the writer only."""
    targets = events.load_events(cursor, list(event_nids))
    edits: set[int] = set()
    for stored in targets.values():
        wanted = Wanted(room_nid, stored.event.event_id, -(2**62), 2**62, REPLACE)
        edits.update(child.nid for child in relations.list_children(cursor, wanted, MOST_EDITS))
    if more := edits - targets.keys():
        targets |= events.load_events(cursor, sorted(more))
    row = cursor.execute("SELECT version FROM rooms WHERE nid = ?", (room_nid,)).fetchone()
    assert row is not None
    version = ROOM_VERSIONS[row[0]]
    gone: list[int] = []
    for nid, stored in targets.items():
        if stored.room_nid != room_nid or stored.event.state_key is not None:
            continue
        events.apply_redaction(cursor, nid, redact_event(version, stored.event).raw, stored.redacted_by)
        gone.append(nid)
    _hide(cursor, gone)
    retention.release(cursor, event_nids)
    return gone


def _hide(cursor: Cursor, nids: Sequence[int]) -> None:
    condition, parameters = among(cursor, "nid", list(nids))
    cursor.later(f"UPDATE events SET flags = ? WHERE flags = 0 AND {condition}", [EXPIRED, *parameters])

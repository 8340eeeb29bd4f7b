"""What several rooms have in a stretch of the stream each: the questions that a `/sync` with an old token asks."""

from __future__ import annotations

from collections.abc import Sequence

from federation.room.event import StateKey
from storage import events, strings
from storage.ports import Cursor, StoredEvent
from storage.sql import among

Span = tuple[int, int, int, int]
"""(room nid, after, upto, limit): the newest so many at positions in (after, upto]."""


def newest_in_spans(cursor: Cursor, spans: Sequence[Span]) -> dict[int, list[StoredEvent]]:
    """The newest events of each span, oldest first. Rejected and soft-failed ones are left out."""
    found: dict[int, list[StoredEvent]] = {}
    whole: dict[tuple[int, int], list[int]] = {}
    for room_nid, after, upto, limit in spans:
        if after <= 0 and limit:
            # First syncs: all rooms up to one position, for which there is a single statement.
            whole.setdefault((upto, limit), []).append(room_nid)
        else:
            page = events.timeline(cursor, room_nid, after=after, upto=upto, limit=limit, backwards=True)
            found[room_nid] = page[::-1]
    for (upto, limit), room_nids in whole.items():
        found.update(events.recent_timelines(cursor, room_nids, limit, upto))
    return found


def changed_since(cursor: Cursor, room_nids: Sequence[int], after: int) -> list[int]:
    """Which of the rooms have an event later than `after`."""
    if not room_nids:
        return []
    condition, parameters = among(cursor, "nid", room_nids)
    rows = cursor.execute(f"SELECT nid FROM rooms WHERE newest > ? AND {condition}", [after, *parameters]).fetchall()
    return [nid for (nid,) in rows]


StateStep = tuple[int, StateKey, int]
"""(position, key, event nid or 0 where the key went away): one change of a room's current state."""


def state_steps(cursor: Cursor, room_nid: int, after: int, upto: int) -> list[StateStep]:
    """How the current state changed at positions in (after, upto], oldest first."""
    rows = cursor.execute(
        "SELECT position, type_nid, key_nid, event_nid FROM state_changes"
        " WHERE room_nid = ? AND position > ? AND position <= ? ORDER BY position",
        (room_nid, after, upto),
    ).fetchall()
    texts = strings.texts_of(cursor, {nid for row in rows for nid in row[1:3]})
    return [(position, (texts[type_nid], texts[key_nid]), nid) for position, type_nid, key_nid, nid in rows]

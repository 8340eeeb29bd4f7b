"""Which kicks and bans still have something to take away (`federation.room.purging`): what a crash must not forget."""

from __future__ import annotations

from collections.abc import Sequence

from federation.room.purging import asks_for_purge
from storage.ports import Cursor, EventAppend, NewEvent


def is_due(new: NewEvent) -> bool:
    """Whether it is one of those, and holds."""
    stored = new.stored
    return bool(new.changes) and not (stored.rejected or stored.soft_failed) and asks_for_purge(stored.event)


def write(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    """Note those of the new events that do. For the writer only."""
    rows = [(new.stored.nid, new.stored.room_nid) for entry in appends for new in entry.events if is_due(new)]
    cursor.insert_many("purges", ("event_nid", "room_nid"), rows)


def under_way(cursor: Cursor) -> list[tuple[str, int]]:
    """(room id, nid of the member event) of those that are not done, the oldest first. Reads the whole table."""
    rows = cursor.execute(
        "SELECT r.room_id, p.event_nid FROM purges p JOIN rooms r ON r.nid = p.room_nid ORDER BY p.event_nid"
    ).fetchall()
    return [(room_id, nid) for room_id, nid in rows]


def done(cursor: Cursor, event_nid: int) -> None:
    """Nothing is left of it to do. For the writer only."""
    cursor.later("DELETE FROM purges WHERE event_nid = ?", (event_nid,))

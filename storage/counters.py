"""The next free number of each kind, as the database knows them at start."""

from __future__ import annotations

from storage.ports import Counters, Cursor


def read_counters(cursor: Cursor) -> Counters:
    """Costs one look at the end of an index each, and one pass over the rooms.

    Whatever has a position counts here: a place in the stream that somebody was told of must not be given twice.
    """
    row = cursor.execute(
        "SELECT (SELECT COALESCE(MAX(nid), 0) FROM events), (SELECT COALESCE(MAX(nid), 0) FROM rooms),"
        " (SELECT COALESCE(MAX(nid), 0) FROM state_snapshots),"
        " (SELECT COALESCE(MIN(oldest), 0) FROM rooms),"
        " (SELECT COALESCE(MAX(newest), 0) FROM rooms),"
        " (SELECT COALESCE(MAX(position), 0) FROM account_data),"
        " (SELECT COALESCE(MAX(position), 0) FROM receipts)"
    ).fetchone()
    assert row is not None
    event, room, snapshot, backfill, *positions = row
    return Counters(
        position=max(positions) + 1, event=event + 1, room=room + 1, snapshot=snapshot + 1, backfill=backfill
    )

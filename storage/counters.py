"""The next free number of each kind, as the database knows them at start.

A place in the stream that somebody was told of is never given twice, even if the row that had it is deleted: a client
would take the new row for one that it has seen. So the database holds a bound that is above every position in use, and
the writer raises it, many at a time, before it writes beyond.
"""

from __future__ import annotations

from storage.ports import Counters, Cursor

POSITIONS_AT_A_TIME = 10_000
"""By how much positions may jump when the server was killed and starts again."""


def read_counters(cursor: Cursor) -> Counters:
    """Costs one look at the end of an index each, and one pass over the rooms."""
    row = cursor.execute(
        "SELECT (SELECT COALESCE(MAX(nid), 0) FROM events), (SELECT COALESCE(MAX(nid), 0) FROM rooms),"
        " (SELECT COALESCE(MAX(nid), 0) FROM state_snapshots), (SELECT COALESCE(MIN(oldest), 0) FROM rooms),"
        " (SELECT value FROM meta WHERE key = 'next_position')"
    ).fetchone()
    assert row is not None
    event, room, snapshot, backfill, position = row
    return Counters(
        position=int(position or 1), event=event + 1, room=room + 1, snapshot=snapshot + 1, backfill=backfill
    )


def write_next_position(cursor: Cursor, position: int) -> None:
    """All positions in use, and those that soon will be, are lower than this one."""
    cursor.later(
        "INSERT INTO meta (key, value) VALUES ('next_position', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(position),),
    )

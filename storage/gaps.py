"""What rooms lack in their timelines: events that others name as their previous ones, and that are not here.

    timeline    … 40  41  42 │ gap │ 1048619  1048620 …
    missing_prev              ($lost, 1048619)          the position is that of the event behind the gap

In front of an event behind a gap the stream leaves numbers free: what is fetched later has its place there.
"""

from __future__ import annotations

import msgspec

from storage.ports import Cursor


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Something missing right in front of an event."""

    position: int
    """Of that event."""
    event_ids: tuple[str, ...]
    """What it names; or what several events at that place name."""


def find_gap(cursor: Cursor, room_nid: int, *, after: int, upto: int, last: bool = True) -> Gap | None:
    """The last gap in front of an event at a position > `after` and <= `upto`, or the first of them."""
    pick = "MAX" if last else "MIN"
    row = cursor.execute(
        f"SELECT {pick}(position) FROM missing_prev WHERE room_nid = ? AND position > ? AND position <= ?",
        (room_nid, after, upto),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    rows = cursor.execute(
        "SELECT event_id FROM missing_prev WHERE room_nid = ? AND position = ? ORDER BY event_id", (room_nid, row[0])
    ).fetchall()
    return Gap(row[0], tuple(event_id for (event_id,) in rows))


def missing_prev(cursor: Cursor, room_nid: int) -> list[str]:
    """All that a room's events name as their previous ones and that is not here."""
    rows = cursor.execute("SELECT event_id FROM missing_prev WHERE room_nid = ? ORDER BY event_id", (room_nid,))
    return [event_id for (event_id,) in rows.fetchall()]


def position_before(cursor: Cursor, room_nid: int, position: int) -> int | None:
    """Where the room's event is that comes before a position, shown to people or not; None where there is none."""
    row = cursor.execute(
        "SELECT MAX(position) FROM events WHERE room_nid = ? AND position < ?", (room_nid, position)
    ).fetchone()
    return None if row is None or row[0] is None else int(row[0])

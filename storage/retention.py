"""Which messages have an end of their own, and which rooms speak of it (`federation.room.retention`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from federation.room.retention import RETENTION_TYPES, ends_at
from storage.ports import Cursor, EventAppend
from storage.sql import among


def write(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    """Note those of the new events that have an end, and rooms that speak of it. For the writer only."""
    ending: list[tuple[int, int, int]] = []
    rooms: set[tuple[int]] = set()
    for entry in appends:
        for new in entry.events:
            stored = new.stored
            if stored.position and not stored.rejected and (at := ends_at(stored.event)) is not None:
                ending.append((stored.nid, stored.room_nid, at))
            for change in new.changes:
                if change.key[0] in RETENTION_TYPES and not change.key[1] and change.new is not None:
                    rooms.add((entry.room_nid,))
    cursor.insert_many("ending_events", ("event_nid", "room_nid", "ends_ts"), ending, "ON CONFLICT DO NOTHING")
    cursor.insert_many("retention_rooms", ("room_nid",), sorted(rooms), "ON CONFLICT DO NOTHING")


def next_end(cursor: Cursor) -> int | None:
    """When (ms since 1970) the next message is over by its own word."""
    row = cursor.execute("SELECT ends_ts FROM ending_events WHERE ends_ts >= 0 ORDER BY ends_ts LIMIT 1").fetchone()
    return None if row is None else int(row[0])


def ended(cursor: Cursor, now: int, limit: int) -> list[tuple[int, int]]:
    """(event nid, room nid) of messages that are over by their own word, the earliest first."""
    rows = cursor.execute(
        "SELECT event_nid, room_nid FROM ending_events WHERE ends_ts <= ? ORDER BY ends_ts LIMIT ?", (now, limit)
    ).fetchall()
    return [(nid, room_nid) for nid, room_nid in rows]


def rooms_that_say(cursor: Cursor) -> list[int]:
    """Rooms whose state says, or once said, for how long messages live."""
    return [nid for (nid,) in cursor.execute("SELECT room_nid FROM retention_rooms").fetchall()]


def release(cursor: Cursor, event_nids: Collection[int]) -> None:
    """These are over, or were redacted. For the writer only."""
    condition, parameters = among(cursor, "event_nid", list(event_nids))
    cursor.later(f"DELETE FROM ending_events WHERE {condition}", parameters)

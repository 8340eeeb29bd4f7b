"""Which events stick, and until when (`federation.room.sticky`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from federation.room.sticky import sticks_until
from storage.ports import Cursor, EventAppend
from storage.sql import among


class Sticking(msgspec.Struct, frozen=True, gc=False):
    """A sticky event."""

    nid: int
    room_nid: int
    position: int
    until_ts: int
    """ms since 1970."""


def write(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    """Note those of the new events that stick. For the writer only."""
    rows = [
        (stored.nid, stored.room_nid, stored.position, until)
        for entry in appends
        for stored in (new.stored for new in entry.events)
        if stored.position > 0
        and not (stored.rejected or stored.soft_failed)
        and (until := sticks_until(stored.event, stored.received_ts)) is not None
    ]
    cursor.insert_many("sticky_events", ("event_nid", "room_nid", "position", "until_ts"), rows)


def sticking(cursor: Cursor, now: int) -> list[Sticking]:
    """All events that stick at a time, in the order of the stream; the others are forgotten by `forget`."""
    rows = cursor.execute(
        "SELECT event_nid, room_nid, position, until_ts FROM sticky_events WHERE until_ts > ? ORDER BY position",
        (now,),
    ).fetchall()
    return [Sticking(*row) for row in rows]


def forget(cursor: Cursor, now: int) -> None:
    """Drop what does not stick any more. For the writer only."""
    cursor.later("DELETE FROM sticky_events WHERE until_ts <= ?", (now,))


def release(cursor: Cursor, event_nids: Collection[int]) -> None:
    """These were redacted. For the writer only."""
    condition, parameters = among(cursor, "event_nid", list(event_nids))
    cursor.later(f"DELETE FROM sticky_events WHERE {condition}", parameters)

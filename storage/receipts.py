"""How far people have read: one receipt per room, user, type and thread, with the position of its last change.

Spec: https://spec.matrix.org/v1.19/client-server-api/#receipts
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage.ports import Cursor
from storage.sql import among

UNTHREADED = ""
"""The thread of receipts that count for the whole room."""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """One person has read up to one event."""

    room_nid: int
    user_id: str
    type: str
    """`m.read`, or `m.read.private`, which only its owner may see."""
    thread: str
    """Event id of a thread's root, `main`, or `UNTHREADED`."""
    event_id: str
    ts: int
    """When it was said, in ms since 1970."""
    position: int
    place: int = 0
    """Where the event stands in its room's order, where that is said along with a new receipt."""


def place_of(cursor: Cursor, room_nid: int, event_id: str) -> int | None:
    """Where an event stands in its room's order: greater is later. None for what is in no timeline of that room."""
    row = cursor.execute(
        "SELECT position FROM events WHERE event_id = ? AND room_nid = ? AND flags = 0", (event_id, room_nid)
    ).fetchone()
    return None if row is None else row[0]


def move(cursor: Cursor, receipt: Receipt, place: int) -> bool:
    """Set a receipt, unless the one that it would replace stands at a later event. `place` is `place_of` its event.

    False where it was left as it is.
    """
    row = cursor.execute(
        "SELECT event_position FROM receipts WHERE room_nid = ? AND user_id = ? AND type = ? AND thread = ?",
        (receipt.room_nid, receipt.user_id, receipt.type, receipt.thread),
    ).fetchone()
    if row is not None and row[0] is not None and row[0] >= place:
        return False
    cursor.later(
        "INSERT INTO receipts (room_nid, user_id, type, thread, event_id, event_position, ts, position)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (room_nid, user_id, type, thread) DO UPDATE SET"
        " event_id = excluded.event_id, event_position = excluded.event_position, ts = excluded.ts,"
        " position = excluded.position",
        (
            receipt.room_nid,
            receipt.user_id,
            receipt.type,
            receipt.thread,
            receipt.event_id,
            place,
            receipt.ts,
            receipt.position,
        ),
    )
    return True


def newest(cursor: Cursor, room_nids: Sequence[int], after: int, upto: int, limit: int) -> dict[int, list[Receipt]]:
    """The receipts of some rooms said after one position and up to another: the newest `limit` of each, oldest first.

    Private ones of everybody are among them. Rooms without any are left out.
    """
    if not room_nids:
        return {}
    condition, parameters = among(cursor, "room_nid", room_nids)
    rows = cursor.execute(
        "SELECT room_nid, user_id, type, thread, event_id, ts, position FROM"
        " (SELECT room_nid, user_id, type, thread, event_id, ts, position,"
        " ROW_NUMBER() OVER (PARTITION BY room_nid ORDER BY position DESC, user_id, type, thread) AS age"
        f" FROM receipts WHERE {condition} AND position > ? AND position <= ?) AS ranked"
        " WHERE age <= ? ORDER BY position, user_id, type, thread",
        (*parameters, after, upto, limit),
    ).fetchall()
    found: dict[int, list[Receipt]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(Receipt(*row))
    return found


def of_user(cursor: Cursor, room_nids: Sequence[int], user_id: str) -> list[Receipt]:
    """Every receipt of one person in some rooms."""
    if not room_nids:
        return []
    condition, parameters = among(cursor, "room_nid", room_nids)
    rows = cursor.execute(
        "SELECT room_nid, user_id, type, thread, event_id, ts, position FROM receipts"
        f" WHERE {condition} AND user_id = ? ORDER BY position, type, thread",
        (*parameters, user_id),
    ).fetchall()
    return [Receipt(*row) for row in rows]


def delete_private(cursor: Cursor, user_id: str) -> None:
    """The account is no more: forget what nobody else could see."""
    cursor.later("DELETE FROM receipts WHERE user_id = ? AND type = 'm.read.private'", (user_id,))

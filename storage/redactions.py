"""Redactions that wait for what they redact.

Spec: https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions
"""

from __future__ import annotations

from storage.ports import Cursor


def add_pending(cursor: Cursor, room_nid: int, event_id: str, redaction_nid: int) -> None:
    """Remember that an event is to be redacted should it come. For `EventAppend.also`."""
    cursor.later(
        "INSERT INTO pending_redactions (room_nid, event_id, redaction_nid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (room_nid, event_id, redaction_nid),
    )


def drop_pending(cursor: Cursor, room_nid: int, event_id: str) -> None:
    """The event came."""
    cursor.later("DELETE FROM pending_redactions WHERE room_nid = ? AND event_id = ?", (room_nid, event_id))


def pending_for(cursor: Cursor, room_nid: int, event_id: str) -> list[int]:
    """Nids of the redactions that wait for an event, the oldest first."""
    rows = cursor.execute(
        "SELECT redaction_nid FROM pending_redactions WHERE room_nid = ? AND event_id = ? ORDER BY redaction_nid",
        (room_nid, event_id),
    ).fetchall()
    return [nid for (nid,) in rows]


def rooms_with_pending(cursor: Cursor) -> set[int]:
    """Rooms (nid) in which redactions wait: few, so that nobody else pays for them."""
    return {nid for (nid,) in cursor.execute("SELECT DISTINCT room_nid FROM pending_redactions").fetchall()}

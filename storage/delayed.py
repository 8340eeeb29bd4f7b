"""Events that are to be sent later.

MSC4140: https://github.com/matrix-org/matrix-spec-proposals/pull/4140
"""

from __future__ import annotations

from typing import Any

import msgspec

from storage.ports import Cursor
from storage.sql import from_blob, from_blob_or_none, to_blob

WAITS, BEING_SENT, SENT, CANCELLED, FAILED = range(5)


class Delayed(msgspec.Struct, frozen=True, gc=False):
    """One event, as it is to be sent, and what became of it. Times are in ms since 1970."""

    delay_id: str
    user_id: str
    device_id: str
    txn_id: str
    room_id: str
    type: str
    state_key: str | None
    content: bytes
    """JSON."""
    sticky_ms: int | None
    is_guest: bool
    delay_ms: int
    since_ts: int
    due_ts: int
    outcome: int = WAITS
    ended_ts: int | None = None
    event_id: str | None = None
    error: bytes | None = None
    """JSON."""


_COLUMNS = (
    "delay_id, user_id, device_id, txn_id, room_id, type, state_key, content, sticky_ms, is_guest, delay_ms, since_ts,"
    " due_ts, outcome, ended_ts, event_id, error"
)


class TooMany(Exception):
    """Somebody has as many waiting as may be. `due_ts`: of the next of them."""

    def __init__(self, due_ts: int) -> None:
        super().__init__()
        self.due_ts = due_ts


def add(cursor: Cursor, delayed: Delayed, most: int) -> Delayed:
    """Keep an event, or give the one that the same request asked for before. Raises TooMany. For the writer only."""
    row = cursor.execute(
        f"SELECT {_COLUMNS} FROM delayed_events WHERE user_id = ? AND device_id = ? AND room_id = ? AND txn_id = ?",
        (delayed.user_id, delayed.device_id, delayed.room_id, to_blob(delayed.txn_id)),
    ).fetchone()
    if row is not None:
        return _delayed(row)
    waiting = [one.due_ts for one in of_user(cursor, delayed.user_id) if one.outcome <= BEING_SENT]
    if len(waiting) >= most:
        raise TooMany(min(waiting, default=delayed.due_ts))
    cursor.insert_many(
        "delayed_events",
        _COLUMNS.replace(" ", "").split(","),
        [
            (
                delayed.delay_id,
                delayed.user_id,
                delayed.device_id,
                to_blob(delayed.txn_id),
                delayed.room_id,
                to_blob(delayed.type),
                None if delayed.state_key is None else to_blob(delayed.state_key),
                delayed.content,
                delayed.sticky_ms,
                int(delayed.is_guest),
                delayed.delay_ms,
                delayed.since_ts,
                delayed.due_ts,
                delayed.outcome,
                delayed.ended_ts,
                delayed.event_id,
                delayed.error,
            )
        ],
    )
    return delayed


def get(cursor: Cursor, delay_id: str) -> Delayed | None:
    row = cursor.execute(f"SELECT {_COLUMNS} FROM delayed_events WHERE delay_id = ?", (delay_id,)).fetchone()
    return None if row is None else _delayed(row)


def of_user(cursor: Cursor, user_id: str) -> list[Delayed]:
    """All of somebody's, also what has come to its end lately, the first due in front."""
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM delayed_events WHERE user_id = ? ORDER BY due_ts, delay_id", (user_id,)
    ).fetchall()
    return [_delayed(row) for row in rows]


def waiting(cursor: Cursor) -> list[Delayed]:
    """Everybody's that have not come to their end, the first due in front."""
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM delayed_events WHERE due_ts >= 0 AND outcome < 2 ORDER BY due_ts, delay_id"
    ).fetchall()
    return [_delayed(row) for row in rows]


def claim(cursor: Cursor, delay_id: str, due_by: int) -> bool:
    """Begin to send one that waits and is due by then. False where it is not so. For the writer only."""
    cursor.execute(
        "UPDATE delayed_events SET outcome = ? WHERE delay_id = ? AND outcome = ? AND due_ts <= ?",
        (BEING_SENT, delay_id, WAITS, due_by),
    )
    return cursor.rowcount == 1


def restart(cursor: Cursor, delay_id: str, now: int) -> Delayed | None:
    """Set the clock of one that waits anew; None where it does not wait. For the writer only."""
    cursor.execute(
        "UPDATE delayed_events SET since_ts = ?, due_ts = ? + delay_ms WHERE delay_id = ? AND outcome = ?",
        (now, now, delay_id, WAITS),
    )
    return get(cursor, delay_id) if cursor.rowcount == 1 else None


def change(cursor: Cursor, delay_id: str, now: int, due_ts: int, event_type: str, content: bytes) -> Delayed | None:
    """Let one that waits say something else, or at another time; None where it does not wait. For the writer only."""
    cursor.execute(
        "UPDATE delayed_events SET since_ts = ?, due_ts = ?, delay_ms = ?, type = ?, content = ?"
        " WHERE delay_id = ? AND outcome = ?",
        (now, due_ts, due_ts - now, to_blob(event_type), content, delay_id, WAITS),
    )
    return get(cursor, delay_id) if cursor.rowcount == 1 else None


def end(
    cursor: Cursor,
    delay_id: str,
    outcome: int,
    now: int,
    *,
    event_id: str | None = None,
    error: bytes | None = None,
    only_from: int = BEING_SENT,
) -> bool:
    """Note how it ended. False where it was not in the state that it is to end from. For the writer only."""
    cursor.execute(
        "UPDATE delayed_events SET outcome = ?, ended_ts = ?, event_id = ?, error = ?"
        " WHERE delay_id = ? AND outcome = ?",
        (outcome, now, event_id, error, delay_id, only_from),
    )
    return cursor.rowcount == 1


def forget(cursor: Cursor, before: int) -> None:
    """Drop those that ended before a time. For the writer only."""
    cursor.later("DELETE FROM delayed_events WHERE outcome > 1 AND ended_ts < ?", (before,))


def _delayed(row: tuple[Any, ...]) -> Delayed:
    delay_id, user_id, device_id, txn_id, room_id, event_type, state_key, content, sticky_ms, is_guest, *rest = row
    return Delayed(
        delay_id,
        user_id,
        device_id,
        from_blob(txn_id),
        room_id,
        from_blob(event_type),
        from_blob_or_none(state_key),
        content,
        sticky_ms,
        bool(is_guest),
        *rest,
    )

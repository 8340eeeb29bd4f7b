"""Until when people want to hear nothing of a room; that they do not is one of their push rules.

mutes   user_id │ room_id │ until_ts
"""

from __future__ import annotations

import msgspec

from storage.ports import Cursor


class Mute(msgspec.Struct, frozen=True, gc=False):
    user_id: str
    room_id: str
    until_ts: int
    """In ms since 1970."""


def put(cursor: Cursor, mute: Mute) -> None:
    cursor.later(
        "INSERT INTO mutes (user_id, room_id, until_ts) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, room_id) DO UPDATE SET until_ts = excluded.until_ts",
        msgspec.structs.astuple(mute),
    )


def remove(cursor: Cursor, user_id: str, room_id: str) -> None:
    """It has no end any more, or has come to it."""
    cursor.later("DELETE FROM mutes WHERE user_id = ? AND room_id = ?", (user_id, room_id))


def remove_all(cursor: Cursor, user_id: str) -> None:
    """The account is no more."""
    cursor.later("DELETE FROM mutes WHERE user_id = ?", (user_id,))


def due(cursor: Cursor, now: int, limit: int) -> list[Mute]:
    """Those that are over, the first in front."""
    rows = cursor.execute(
        "SELECT user_id, room_id, until_ts FROM mutes WHERE until_ts <= ? ORDER BY until_ts LIMIT ?", (now, limit)
    ).fetchall()
    return [Mute(*row) for row in rows]


def next_ts(cursor: Cursor) -> int | None:
    """When the next one is over."""
    row = cursor.execute("SELECT until_ts FROM mutes WHERE until_ts > 0 ORDER BY until_ts LIMIT 1").fetchone()
    return None if row is None else int(row[0])

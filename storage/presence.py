"""What is kept of people's presence over a restart: written now and then, so it may be a minute old.

Spec: https://spec.matrix.org/v1.19/client-server-api/#presence
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from storage.ports import Cursor
from storage.sql import among, from_blob_or_none, to_blob

STATES = ("offline", "unavailable", "online", "busy")
"""Presence states by the number they have in the table."""
MOODS = (None, "away", "busy", "invisible")
"""What people choose to be, by number."""


class SavedPresence(msgspec.Struct, frozen=True, gc=False):
    user_id: str
    state: str
    status_msg: str | None
    last_active_ts: int
    """In ms since 1970; 0: never."""
    mood: str | None = None


def read(cursor: Cursor, user_ids: Sequence[str]) -> dict[str, SavedPresence]:
    """What is known of some people, by user id."""
    if not user_ids:
        return {}
    condition, parameters = among(cursor, "user_id", user_ids)
    rows = cursor.execute(
        f"SELECT user_id, state, status_msg, last_active_ts, mood FROM presence WHERE {condition}", parameters
    ).fetchall()
    return {row[0]: _saved(row) for row in rows}


def not_offline(cursor: Cursor) -> list[SavedPresence]:
    """Everybody who was here when this was last written."""
    rows = cursor.execute(
        "SELECT user_id, state, status_msg, last_active_ts, mood FROM presence WHERE state <> 0 ORDER BY user_id"
    ).fetchall()
    return [_saved(row) for row in rows]


def save(cursor: Cursor, rows: Iterable[SavedPresence]) -> None:
    cursor.insert_many(
        "presence",
        ("user_id", "state", "status_msg", "last_active_ts", "mood"),
        [
            (
                row.user_id,
                STATES.index(row.state),
                None if row.status_msg is None else to_blob(row.status_msg),
                row.last_active_ts,
                MOODS.index(row.mood),
            )
            for row in rows
        ],
        "ON CONFLICT (user_id) DO UPDATE SET state = excluded.state, status_msg = excluded.status_msg,"
        " last_active_ts = excluded.last_active_ts, mood = excluded.mood",
    )


def delete(cursor: Cursor, user_id: str) -> None:
    """The account is no more."""
    cursor.later("DELETE FROM presence WHERE user_id = ?", (user_id,))


def _saved(row: tuple[str, int, bytes | None, int, int]) -> SavedPresence:
    user_id, state, status_msg, last_active_ts, mood = row
    return SavedPresence(user_id, STATES[state], from_blob_or_none(status_msg), last_active_ts, MOODS[mood])

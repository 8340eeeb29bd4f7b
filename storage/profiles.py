"""What people tell everybody about themselves: named fields, each any JSON.

Spec: https://spec.matrix.org/v1.19/client-server-api/#profiles
"""

from __future__ import annotations

from storage import media_refs
from storage.ports import Cursor


def read(cursor: Cursor, user_id: str) -> dict[str, bytes]:
    """All fields as JSON texts, by key; empty also for someone who is not known here."""
    rows = cursor.execute("SELECT key, value FROM profiles WHERE user_id = ? ORDER BY key", (user_id,)).fetchall()
    return {key: bytes(value) for key, value in rows}


def put(cursor: Cursor, user_id: str, key: str, value: bytes, max_bytes: int) -> bool:
    """Set a field to a JSON text. False, and nothing done, if the whole profile would pass `max_bytes` as JSON."""
    row = cursor.execute(
        "SELECT COALESCE(SUM(LENGTH(key) + LENGTH(value) + 4), 0) FROM profiles WHERE user_id = ? AND key <> ?",
        (user_id, key),
    ).fetchone()
    assert row is not None
    # Each field costs two quotes, a colon and a comma; the braces cost one more than the comma that is too much.
    if int(row[0]) + len(key) + len(value) + 5 > max_bytes:
        return False
    cursor.later(
        "INSERT INTO profiles (user_id, key, value) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value",
        (user_id, key, value),
    )
    media_refs.hold_profile(cursor, user_id, key, value)
    return True


def delete(cursor: Cursor, user_id: str, key: str) -> None:
    """Remove a field, if it is there."""
    cursor.later("DELETE FROM profiles WHERE user_id = ? AND key = ?", (user_id, key))
    media_refs.release_profile(cursor, user_id, key)


def delete_all(cursor: Cursor, user_id: str) -> None:
    """The account is no more."""
    cursor.later("DELETE FROM profiles WHERE user_id = ?", (user_id,))
    media_refs.release_profile(cursor, user_id)

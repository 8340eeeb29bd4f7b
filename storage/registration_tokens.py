"""Registration tokens that are kept in the database: how often each may be used, and how often it was.

Spec: https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration
"""

from __future__ import annotations

from storage.ports import Cursor

_VALID = "(uses_allowed IS NULL OR completed < uses_allowed) AND (expires_ts IS NULL OR expires_ts > ?)"


def is_valid(cursor: Cursor, token: str, now: int) -> bool:
    """Whether somebody could register with this token now (ms since 1970)."""
    return (
        cursor.execute(f"SELECT 1 FROM registration_tokens WHERE token = ? AND {_VALID}", (token, now)).fetchone()
        is not None
    )


def use_token(cursor: Cursor, token: str, now: int) -> bool:
    """Count one use. False, and nothing counted, if it is not valid."""
    cursor.execute(
        f"UPDATE registration_tokens SET completed = completed + 1 WHERE token = ? AND {_VALID}", (token, now)
    )
    return cursor.rowcount == 1


def add_token(cursor: Cursor, token: str, uses_allowed: int | None, expires_ts: int | None) -> bool:
    """Write a new token; False if it is there already."""
    cursor.execute(
        "INSERT INTO registration_tokens (token, uses_allowed, completed, expires_ts) VALUES (?, ?, 0, ?)"
        " ON CONFLICT DO NOTHING",
        (token, uses_allowed, expires_ts),
    )
    return cursor.rowcount == 1

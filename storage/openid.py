"""OpenID tokens, kept as hashes until they expire.

Spec: https://spec.matrix.org/v1.19/client-server-api/#openid
"""

from __future__ import annotations

from storage.ports import Cursor


def add(cursor: Cursor, token_hash: bytes, user_id: str, expires_ts: int, now: int) -> None:
    """Keep a token, and forget those that have expired."""
    cursor.later("DELETE FROM openid_tokens WHERE expires_ts <= ?", (now,))
    cursor.later(
        "INSERT INTO openid_tokens (token_hash, user_id, expires_ts) VALUES (?, ?, ?)",
        (token_hash, user_id, expires_ts),
    )


def owner(cursor: Cursor, token_hash: bytes, now: int) -> str | None:
    """Whose token it is; None if it is none, has expired, or its account is closed."""
    row = cursor.execute(
        "SELECT t.user_id FROM openid_tokens t JOIN users u ON u.user_id = t.user_id"
        " WHERE t.token_hash = ? AND t.expires_ts > ? AND u.deactivated = 0",
        (token_hash, now),
    ).fetchone()
    return None if row is None else str(row[0])

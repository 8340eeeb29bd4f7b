"""Filters that clients have uploaded: they name them by a small number from then on.

Spec: https://spec.matrix.org/v1.19/client-server-api/#filtering
"""

from __future__ import annotations

from storage.ports import Cursor


def add(cursor: Cursor, user_id: str, json: bytes) -> int:
    """Keep a filter and give its number; the same text (byte by byte) keeps its number."""
    row = cursor.execute("SELECT filter_id FROM filters WHERE user_id = ? AND json = ?", (user_id, json)).fetchone()
    if row is not None:
        return int(row[0])
    row = cursor.execute("SELECT COALESCE(MAX(filter_id), 0) FROM filters WHERE user_id = ?", (user_id,)).fetchone()
    assert row is not None
    filter_id = int(row[0]) + 1
    cursor.later("INSERT INTO filters (user_id, filter_id, json) VALUES (?, ?, ?)", (user_id, filter_id, json))
    return filter_id


def get(cursor: Cursor, user_id: str, filter_id: int) -> bytes | None:
    row = cursor.execute(
        "SELECT json FROM filters WHERE user_id = ? AND filter_id = ?", (user_id, filter_id)
    ).fetchone()
    return None if row is None else bytes(row[0])


def delete_all(cursor: Cursor, user_id: str) -> None:
    """The account is no more."""
    cursor.later("DELETE FROM filters WHERE user_id = ?", (user_id,))

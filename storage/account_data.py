"""What people keep on their server, for themselves: account data, global (room 0) or of one room.

Tags and the fully-read marker are account data of a room. A row carries the position of its last change, so that
"what changed since" is one range of an index.

Spec: https://spec.matrix.org/v1.19/client-server-api/#client-config
"""

from __future__ import annotations

import msgspec

from storage import media_refs
from storage.ports import Cursor
from storage.sql import from_blob, to_blob

GLOBAL = 0
"""The room of account data that belongs to no room."""

PICTURES = frozenset({"im.ponies.user_emotes"})
"""Types that name files as a rule, so that those which they no longer name are let go. Of others only that is heeded
which they do name: most account data is small, changes often, and names none."""


class AccountDatum(msgspec.Struct, frozen=True, gc=False):
    """One piece of account data."""

    room_nid: int
    type: str
    content: bytes
    """JSON object."""
    position: int


def get(cursor: Cursor, user_id: str, room_nid: int, event_type: str) -> bytes | None:
    """The content, as JSON."""
    row = cursor.execute(
        "SELECT content FROM account_data WHERE user_id = ? AND room_nid = ? AND type = ?",
        (user_id, room_nid, to_blob(event_type)),
    ).fetchone()
    return None if row is None else bytes(row[0])


def count(cursor: Cursor, user_id: str, room_nid: int) -> int:
    """How many pieces somebody keeps in one place."""
    row = cursor.execute(
        "SELECT COUNT(*) FROM account_data WHERE user_id = ? AND room_nid = ?", (user_id, room_nid)
    ).fetchone()
    assert row is not None
    return int(row[0])


def changed(cursor: Cursor, user_id: str, after: int, upto: int) -> list[AccountDatum]:
    """What changed after one position and up to another, in the order of change. After 0: everything."""
    rows = cursor.execute(
        "SELECT room_nid, type, content, position FROM account_data"
        " WHERE user_id = ? AND position > ? AND position <= ? ORDER BY position",
        (user_id, after, upto),
    ).fetchall()
    return [
        AccountDatum(room_nid, from_blob(event_type), bytes(content), position)
        for room_nid, event_type, content, position in rows
    ]


def put(cursor: Cursor, user_id: str, datum: AccountDatum) -> None:
    """Set one piece, in place of what was there."""
    cursor.later(
        "INSERT INTO account_data (user_id, room_nid, type, content, position) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id, room_nid, type)"
        " DO UPDATE SET content = excluded.content, position = excluded.position",
        (user_id, datum.room_nid, to_blob(datum.type), datum.content, datum.position),
    )
    if datum.type in PICTURES or cursor.shared.own_uri in datum.content:
        media_refs.hold_account_data(cursor, user_id, datum.room_nid, datum.type, datum.content)


def delete_all(cursor: Cursor, user_id: str) -> None:
    """The account is no more."""
    cursor.later("DELETE FROM account_data WHERE user_id = ?", (user_id,))
    media_refs.release_account_data(cursor, user_id)

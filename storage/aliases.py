"""Names of rooms: this server's aliases, each for one room, which need not be known here.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-aliases
"""

from __future__ import annotations

import msgspec

from storage.ports import Cursor


class AliasRow(msgspec.Struct, frozen=True, gc=False):
    """What an alias stands for."""

    alias: str
    room_id: str
    creator: str


def find(cursor: Cursor, alias: str) -> AliasRow | None:
    row = cursor.execute("SELECT room_id, creator FROM aliases WHERE alias = ?", (alias,)).fetchone()
    return None if row is None else AliasRow(alias, row[0], row[1])


def add(cursor: Cursor, alias: str, room_id: str, creator: str, created_ts: int = 0) -> bool:
    """Make an alias. False if it is taken."""
    cursor.execute(
        "INSERT INTO aliases (alias, room_id, creator, created_ts) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (alias, room_id, creator, created_ts),
    )
    return cursor.rowcount == 1


def remove(cursor: Cursor, alias: str) -> bool:
    """Take an alias away. False if there was none."""
    cursor.execute("DELETE FROM aliases WHERE alias = ?", (alias,))
    return cursor.rowcount == 1


def move(cursor: Cursor, old_room_id: str, new_room_id: str) -> None:
    """All aliases of a room stand for another one now."""
    cursor.later("UPDATE aliases SET room_id = ? WHERE room_id = ?", (new_room_id, old_room_id))


def of_room(cursor: Cursor, room_id: str) -> list[str]:
    """All aliases of a room, oldest first."""
    rows = cursor.execute(
        "SELECT alias FROM aliases WHERE room_id = ? ORDER BY created_ts, alias", (room_id,)
    ).fetchall()
    return [alias for (alias,) in rows]

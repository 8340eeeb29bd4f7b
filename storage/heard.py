"""Events that a peer was told are well, and that have no place in their room yet.

Spec: https://spec.matrix.org/v1.19/server-server-api/#transactions
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage.ports import Cursor


def put(cursor: Cursor, origin: str, room_id: str, raws: Sequence[bytes]) -> None:
    """Keep these events of one server in one room, and no others of the two. They are JSON, as they came."""
    key = (origin, room_id.encode())
    if not raws:
        cursor.execute("DELETE FROM heard WHERE origin = ? AND room_id = ?", key)
        return
    cursor.execute(
        "INSERT INTO heard (origin, room_id, events) VALUES (?, ?, ?)"
        " ON CONFLICT (origin, room_id) DO UPDATE SET events = excluded.events",
        (*key, msgspec.json.encode([msgspec.Raw(raw) for raw in raws])),
    )


def everything(cursor: Cursor) -> dict[tuple[str, str], list[bytes]]:
    """All of them, by server and room."""
    rows = cursor.execute("SELECT origin, room_id, events FROM heard ORDER BY origin, room_id").fetchall()
    return {
        (origin, bytes(room_id).decode()): [bytes(raw) for raw in msgspec.json.decode(events, type=list[msgspec.Raw])]
        for origin, room_id, events in rows
    }

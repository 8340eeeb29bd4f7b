"""Servers that are out of rooms again, by a kick or by state resolution, and up to where they may ask by what.

What a server was put out by may follow, and rest on, what it never heard of: while it was there it could have asked.

Spec: https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from storage.ports import Cursor, StoredEvent


class Last(msgspec.Struct, frozen=True, gc=False):
    position: int
    nid: int
    """What has a smaller one was here before."""


def note(cursor: Cursor, servers: Iterable[str], event: StoredEvent) -> None:
    """With this event, which has its position, these servers turned out to be gone. For `EventAppend.also`."""
    cursor.insert_many(
        "overruled",
        ("room_nid", "server", "upto"),
        [(event.room_nid, server, event.position) for server in sorted(servers)],
        "ON CONFLICT (room_nid, server) DO UPDATE SET upto = excluded.upto",
    )


def last_event(cursor: Cursor, room_nid: int, server: str) -> Last | None:
    """The last event about which a server may ask that is out; None where it never was in."""
    row = cursor.execute(
        "SELECT o.upto, e.nid FROM overruled o JOIN events e ON e.room_nid = o.room_nid AND e.position = o.upto"
        " WHERE o.room_nid = ? AND o.server = ?",
        (room_nid, server),
    ).fetchone()
    return None if row is None else Last(*row)

"""The rooms that this server shows to everybody, and what a listing tells of a room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from federation.room.event import StateKey
from storage.events import load_events
from storage.memberships import NUMBERS
from storage.ports import Cursor
from storage.rooms import load_rows
from storage.sql import among
from storage.state import read_state

SHOWN: Mapping[str, StateKey] = {
    name: (f"m.room.{name}", "")
    for name in ("name", "topic", "canonical_alias", "avatar", "join_rules", "history_visibility", "guest_access")
}
"""The state that a listing shows, by the last word of its type."""


class ListedRoom(msgspec.Struct, frozen=True, gc=False):
    """A room as it may be listed: the contents of `SHOWN`, where they are set, and how many are joined."""

    nid: int
    room_id: str
    version: str
    room_type: str | None
    joined: int
    contents: Mapping[str, Mapping[str, Any]]


def publish(cursor: Cursor, room_nid: int) -> None:
    cursor.later("INSERT INTO published_rooms (room_nid) VALUES (?) ON CONFLICT DO NOTHING", (room_nid,))


def unpublish(cursor: Cursor, room_nid: int) -> None:
    cursor.later("DELETE FROM published_rooms WHERE room_nid = ?", (room_nid,))


def is_published(cursor: Cursor, room_nid: int) -> bool:
    return cursor.execute("SELECT 1 FROM published_rooms WHERE room_nid = ?", (room_nid,)).fetchone() is not None


def published(cursor: Cursor, room_nids: Sequence[int] | None = None) -> list[ListedRoom]:
    """The published rooms, all of them or those among `room_nids`. Costs a few queries per room."""
    condition = ""
    parameters: list[Any] = []
    if room_nids is not None:
        if not room_nids:
            return []
        condition, parameters = among(cursor, "room_nid", room_nids)
        condition = f" WHERE {condition}"
    rows = cursor.execute(f"SELECT room_nid FROM published_rooms{condition}", parameters).fetchall()
    return listed(cursor, [nid for (nid,) in rows])


def listed(cursor: Cursor, room_nids: Sequence[int], shown: Mapping[str, StateKey] = SHOWN) -> list[ListedRoom]:
    """What a listing tells of rooms, published or not. Unknown nids are left out."""
    if not room_nids:
        return []
    counts = _joined_counts(cursor, room_nids)
    states = {
        nid: (row, read_state(cursor, row.head.snapshot, list(shown.values())))
        for nid, row in load_rows(cursor, room_nids).items()
    }
    events = load_events(cursor, [event_nid for _, state in states.values() for event_nid in state.values()])
    return [
        ListedRoom(
            nid,
            row.room_id,
            row.version,
            row.room_type,
            counts.get(nid, 0),
            {name: events[state[key]].event.content for name, key in shown.items() if key in state},
        )
        for nid, (row, state) in states.items()
    ]


def _joined_counts(cursor: Cursor, room_nids: Sequence[int]) -> dict[int, int]:
    condition, parameters = among(cursor, "room_nid", room_nids)
    rows = cursor.execute(
        f"SELECT room_nid, COUNT(*) FROM memberships WHERE {condition} AND membership = ? GROUP BY room_nid",
        [*parameters, NUMBERS["join"]],
    ).fetchall()
    return dict(rows)

"""Rooms as somebody who is not in them may be shown them, and the memberships on which it depends whether.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from federation.room.event import StateKey
from storage import strings
from storage.directory import SHOWN, ListedRoom, listed
from storage.events import load_events
from storage.memberships import NUMBERS
from storage.ports import Cursor, StoredEvent
from storage.rooms import find_nids, load_rows
from storage.sql import among, to_blob
from storage.state import read_state

PREVIEWED: Mapping[str, StateKey] = {
    **SHOWN,
    "encryption": ("m.room.encryption", ""),
    "server_acl": ("m.room.server_acl", ""),
}
"""What a preview shows of a room's state, and what else decides about it."""

SPACE = "m.space"
CHILD = "m.space.child"


class RoomPreview(msgspec.Struct, frozen=True, gc=False):
    """One room that is known here."""

    room: ListedRoom
    is_here: bool
    """Whether somebody of this server is joined: otherwise what is known of it may be old."""
    children: list[StoredEvent]
    """Its `m.space.child` events, where it is a space."""


def read_previews(cursor: Cursor, room_ids: Sequence[str], server_name: str) -> dict[str, RoomPreview]:
    """By room id; rooms that are not known here are left out. `server_name`: this server's."""
    nids = list(find_nids(cursor, room_ids).values())
    if not nids:
        return {}
    here = rooms_of_server(cursor, nids, server_name, ("join",))
    rooms = listed(cursor, nids, PREVIEWED)
    children = _children(cursor, [room.nid for room in rooms if room.room_type == SPACE and room.nid in here])
    return {room.room_id: RoomPreview(room, room.nid in here, children.get(room.nid, [])) for room in rooms}


def memberships_among(cursor: Cursor, room_nids: Sequence[int], user_id: str) -> dict[int, int]:
    """The memberships that a user has in some rooms: room nid → number (`storage.memberships.NAMES`)."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is None or not room_nids:
        return {}
    condition, parameters = among(cursor, "room_nid", room_nids)
    rows = cursor.execute(
        f"SELECT room_nid, membership FROM memberships WHERE user_nid = ? AND {condition}", [user_nid, *parameters]
    ).fetchall()
    return dict(rows)


def rooms_of_server(cursor: Cursor, room_nids: Sequence[int], server_name: str, memberships: Sequence[str]) -> set[int]:
    """Those of some rooms in which somebody of a server has one of the memberships.

    Where nobody has, it costs a look at all members of the room.
    """
    suffix = to_blob(":" + server_name)
    condition, parameters = among(cursor, "m.membership", [NUMBERS[name] for name in memberships])
    found = set()
    for nid in room_nids:
        row = cursor.execute(
            f"SELECT 1 FROM memberships m JOIN strings s ON s.nid = m.user_nid WHERE m.room_nid = ? AND {condition}"
            " AND SUBSTR(s.value, LENGTH(s.value) - ? + 1) = ? LIMIT 1",
            [nid, *parameters, len(suffix), suffix],
        ).fetchone()
        if row is not None:
            found.add(nid)
    return found


def _children(cursor: Cursor, room_nids: Sequence[int]) -> dict[int, list[StoredEvent]]:
    heads = load_rows(cursor, room_nids)
    nids = {nid: list(read_state(cursor, row.head.snapshot, types=[CHILD]).values()) for nid, row in heads.items()}
    events = load_events(cursor, [event_nid for of_room in nids.values() for event_nid in of_room])
    return {nid: [events[event_nid] for event_nid in of_room if event_nid in events] for nid, of_room in nids.items()}

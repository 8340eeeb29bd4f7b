"""Rooms and their heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from federation.room.event import StateKey
from storage import events, state
from storage.partial import PartialStay, stays_of
from storage.ports import Cursor, NewRoom, RoomHead, StateRef, StoredEvent
from storage.sql import among, from_blob_or_none, to_blob


class RoomRow(msgspec.Struct, frozen=True, gc=False):
    """A room without its state."""

    nid: int
    room_id: str
    version: str
    creator: str
    room_type: str | None
    """`type` of the create event's content: `m.space` is a space."""
    head: RoomHead
    newest: int
    """Position of its newest event."""
    oldest: int
    """Below 0 where earlier events were backfilled: the lowest position in use."""
    is_partial: bool = False
    """Whether there are `partial.stays_of` it."""
    whole_since: int = 0
    """Position at which a stay was made whole, the last time."""


class LoadedRoom(msgspec.Struct, frozen=True):
    """All that a live room starts from."""

    nid: int
    row: RoomRow
    state: dict[StateKey, StateRef]
    """The current state, whole."""
    create: StoredEvent
    stays: tuple[PartialStay, ...] = ()
    """Those that are not made whole."""

    @property
    def version(self) -> str:
        return self.row.version

    @property
    def head(self) -> RoomHead:
        return self.row.head


_ROW = (
    "nid, room_id, version, creator, room_type, extremities, depth, snapshot, newest, oldest, is_partial, whole_since"
)


def find_nid(cursor: Cursor, room_id: str) -> int | None:
    if "\0" in room_id:
        return None  # no room id, and PostgreSQL would not take it
    row = cursor.execute("SELECT nid FROM rooms WHERE room_id = ?", (room_id,)).fetchone()
    return None if row is None else row[0]


def find_nids(cursor: Cursor, room_ids: Sequence[str]) -> dict[str, int]:
    """The nids of those rooms that are known here, also by an invitation only."""
    wanted = [room_id for room_id in room_ids if "\0" not in room_id]
    if not wanted:
        return {}
    condition, parameters = among(cursor, "room_id", wanted)
    return dict(cursor.execute(f"SELECT room_id, nid FROM rooms WHERE {condition}", parameters).fetchall())


def find_room(cursor: Cursor, room_id: str) -> RoomRow | None:
    if "\0" in room_id:
        return None
    row = cursor.execute(f"SELECT {_ROW} FROM rooms WHERE room_id = ?", (room_id,)).fetchone()
    return None if row is None else _room_row(cursor, row)


def load_rows(cursor: Cursor, nids: Sequence[int]) -> dict[int, RoomRow]:
    """Rooms by nid; unknown ones are left out."""
    if not nids:
        return {}
    condition, parameters = among(cursor, "nid", nids)
    rows = cursor.execute(f"SELECT {_ROW} FROM rooms WHERE {condition}", parameters).fetchall()
    return {row[0]: _room_row(cursor, row) for row in rows}


def load_room(cursor: Cursor, nid: int) -> LoadedRoom | None:
    """A room with its current state. None for a room that is not known, or known by an invite or a knock only."""
    row = load_rows(cursor, [nid]).get(nid)
    if row is None:
        return None
    current = state.read_state_refs(cursor, row.head.snapshot)
    create = current.get(("m.room.create", ""))
    if create is None:
        return None
    stays = stays_of(cursor, nid) if row.is_partial else ()
    return LoadedRoom(nid, row, current, events.load_events(cursor, [create.nid])[create.nid], stays)


def correct_room(cursor: Cursor, row: NewRoom) -> None:
    """Put right what was known of a room by an invitation, which may have said anything. For `EventAppend.also`."""
    room_type = None if row.is_space_type is None else to_blob(row.is_space_type)
    cursor.later(
        "UPDATE rooms SET version = ?, creator = ?, room_type = ? WHERE nid = ?",
        (row.version, row.creator, room_type, row.nid),
    )
    cursor.shared.room_versions.put(row.nid, row.version)


def _room_row(cursor: Cursor, row: tuple[Any, ...]) -> RoomRow:
    nid, room_id, version, creator, room_type, extremities, depth, snapshot, newest, oldest, is_partial, since = row
    cursor.shared.room_versions.put(nid, version)
    head = RoomHead(tuple(orjson.loads(extremities)), depth, snapshot)
    return RoomRow(
        nid, room_id, version, creator, from_blob_or_none(room_type), head, newest, oldest, bool(is_partial), since
    )

"""What is appended can be read back: events, heads, state, memberships, transaction ids."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from storage import events, memberships, rooms, spans, state, transactions
from storage.database import Database
from storage.errors import DuplicateRow, RoomPoisoned
from storage.ports import Transaction
from tests.fixtures_db import Pump
from tests.storage.histories import Room


def append_all(pump: Pump, database: Database, *appends: Sequence[object] | object) -> None:
    """Append in one go, which is one batch but for the first."""
    waiting = [database.append(append) for append in appends]  # type: ignore[arg-type]
    for deferred in waiting:
        pump.wait(deferred)


def test_a_room_is_read_back_as_it_was_written(database: Database, pump: Pump) -> None:
    room = Room(database.counters)
    append_all(pump, database, *room.create(), room.join("@bob:test.example"), room.send("hello"))
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert loaded.head == room.head
    assert loaded.state == room.state
    assert loaded.row.room_id == room.room_id
    assert loaded.version == "11"
    assert loaded.create.event.type == "m.room.create"
    assert pump.wait(database.run(rooms.find_nid, room.room_id)) == room.nid
    assert pump.wait(database.run(rooms.find_nid, "!nowhere:test.example")) is None
    assert pump.wait(database.run(rooms.load_room, 77)) is None

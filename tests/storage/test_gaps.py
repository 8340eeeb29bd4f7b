"""Where something is missing in a room's timeline, and events by time."""

from __future__ import annotations

import pytest

from storage import gaps, rooms
from storage.database import Database
from storage.events import FIRST, LAST, Moment, nearest
from storage.ports import EventAppend
from tests.fixtures_db import Pump
from tests.storage.histories import Room, append_all


@pytest.fixture
def room(database: Database, pump: Pump) -> Room:
    room = Room(database.counters)
    append_all(pump, database, *room.create())
    return room


def say(room: Room, ts: int, prev: list[str] | None = None, missing: list[str] | None = None) -> EventAppend:
    append = room.accept(room.event("m.room.message", {}, ts=ts, prev_events=prev))
    append.missing_prev = missing or []
    return append


def position(append: EventAppend) -> int:
    return append.events[0].stored.position


def test_gaps(database: Database, pump: Pump, room: Room) -> None:
    appends = [
        say(room, 0),
        say(room, 1, ["$a", "$b"], ["$a", "$b"]),
        say(room, 2),
        say(room, 3, ["$c", "$a"], ["$c", "$a"]),
    ]
    append_all(pump, database, *appends)
    _, first, middle, last = map(position, appends)

    def find(after: int, upto: int, *, from_end: bool = True) -> gaps.Gap | None:
        return pump.wait(database.run(gaps.find_gap, room.nid, after=after, upto=upto, last=from_end))

    assert find(FIRST, LAST) == gaps.Gap(last, ("$c",)), "what two name is missing in front of the first of them"
    assert find(FIRST, LAST, from_end=False) == gaps.Gap(first, ("$a", "$b"))
    assert find(FIRST, last - 1) == gaps.Gap(first, ("$a", "$b"))
    assert find(first, LAST, from_end=False) == gaps.Gap(last, ("$c",))
    assert find(first, middle) is None
    assert find(last, LAST) is None
    before = pump.wait(database.run(gaps.position_before, room.nid, first))
    assert before == position(appends[0])
    assert pump.wait(database.run(gaps.position_before, room.nid, FIRST)) is None


def test_fetched_later_does_not_move_the_room(database: Database, pump: Pump, room: Room) -> None:
    """What is put in between is no news."""
    first = say(room, 1)
    database.counters.position += 10
    last = say(room, 3)
    append_all(pump, database, first, last)
    head = room.head
    between = say(room, 2)
    between.head, between.events[0].stored.position = None, position(last) - 5
    append_all(pump, database, between)
    found = pump.wait(database.run(nearest, room.nid, (1, FIRST), 9, backwards=False))
    assert [stored.event.origin_server_ts for stored in found][:3] == [1, 2, 3]
    row = pump.wait(database.run(rooms.find_room, room.room_id))
    assert row is not None
    assert (row.newest, row.head) == (position(last), head)


def test_moments(database: Database, pump: Pump, room: Room) -> None:
    times = [10, 30, 20, 30, -5, 10]
    appends = [say(room, ts) for ts in times]
    hidden = [say(room, 15), say(room, 16)]
    hidden[0].events[0].stored.rejected = True
    hidden[1].events[0].stored.soft_failed = True
    append_all(pump, database, *appends, *hidden)
    places = [position(append) for append in appends]

    def near(moment: Moment, *, backwards: bool, limit: int = 3) -> list[int]:
        found = pump.wait(database.run(nearest, room.nid, moment, limit, backwards=backwards))
        return [places.index(stored.position) for stored in found if stored.position in places]

    assert near((10, FIRST), backwards=False) == [0, 5, 2]
    assert near((10, LAST), backwards=False) == [2, 1, 3]
    assert near((10, LAST), backwards=True) == [5, 0, 4]
    assert near((10, FIRST), backwards=True) == [4]
    assert near((10, places[0]), backwards=False) == [5, 2, 1], "where a page ends, the next begins"
    assert near((31, FIRST), backwards=False, limit=100) == []
    assert near((-6, LAST), backwards=True) == []

"""What other servers have yet to hear of, on both databases."""

from __future__ import annotations

from storage import destinations
from storage.database import Database
from storage.destinations import Attempts, Debt
from storage.ports import Cursor
from tests.fixtures_db import Pump
from tests.storage.histories import Room, append_all

A, B = "a.org", "b.org"


def rooms(database: Database, pump: Pump, count: int) -> list[Room]:
    found = [Room(database.counters) for _ in range(count)]
    for room in found:
        append_all(pump, database, *room.create())
    return found


def test_of_two_debts_the_greater_position_counts(database: Database, pump: Pump) -> None:
    one, two = rooms(database, pump, 2)

    def story(cursor: Cursor) -> list[list[Debt]]:
        seen = []
        destinations.owe(cursor, [(A, one.room_id, 5), (A, two.room_id, 3), (A, one.room_id, 4), (B, one.room_id, 1)])
        destinations.owe(cursor, [(A, one.room_id, 2), (A, two.room_id, 9), (A, "!unknown:a.org", 1)])
        seen.append(destinations.debts_to(cursor, A, 10))
        destinations.settle(cursor, [(A, one.room_id, 5), (A, two.room_id, 8)])
        seen.append(destinations.debts_to(cursor, A, 10))
        destinations.clear(cursor, [A])
        seen.append(destinations.debts_to(cursor, A, 10))
        return seen

    assert pump.wait(database.write(story)) == [
        [Debt(one.nid, one.room_id, 5), Debt(two.nid, two.room_id, 9)],
        [Debt(two.nid, two.room_id, 9)],
        [],
    ]
    assert pump.wait(database.run(destinations.all_creditors)) == [B]


def test_a_page_of_debts(database: Database, pump: Pump) -> None:
    found = rooms(database, pump, 3)
    pump.wait(database.write(destinations.owe, [(A, room.room_id, 1) for room in reversed(found)]))
    assert [debt.room_id for debt in pump.wait(database.run(destinations.debts_to, A, 2))] == [
        room.room_id for room in found[:2]
    ]


def test_attempts(database: Database, pump: Pump) -> None:
    pump.wait(database.write(destinations.write_attempts, {A: Attempts(1, 2), B: Attempts(3, 4)}))
    pump.wait(database.write(destinations.write_attempts, {A: Attempts(5, 1_700_000_000_000), B: None}))
    assert pump.wait(database.run(destinations.all_attempts)) == {A: Attempts(5, 1_700_000_000_000)}


def test_the_mark(database: Database, pump: Pump) -> None:
    assert pump.wait(database.run(destinations.read_upto)) == 0
    pump.wait(database.write(destinations.write_upto, 7))
    assert pump.wait(database.run(destinations.read_upto)) == 7

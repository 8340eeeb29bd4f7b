"""Appends to a database until it is killed: a process for `test_crash.py`.

    python -m tests.storage.storm URL

Prints the id of every event once it is durable.
"""

from __future__ import annotations

import sys

from storage.database import Database, open_database
from storage.ports import EventAppend
from tests.fixtures_db import SERVER_NAME, Pump
from tests.storage.histories import Room

ROOMS = 4


def storm(database: Database, pump: Pump) -> None:
    rooms = [Room(database.counters, name="storm") for _ in range(ROOMS)]
    appends: list[EventAppend] = [append for room in rooms for append in room.create()]
    turn = 0
    while True:
        answers = [(append, database.append(append)) for append in appends]
        for append, answer in answers:
            pump.wait(answer)
            print(append.events[-1].stored.event.event_id, flush=True)
        turn += 1
        appends = [
            room.send(f"message {turn}") if (turn + number) % 3 else room.member(f"@user{turn}:test.example", "join")
            for number, room in enumerate(rooms)
            for _ in range(2)
        ]


if __name__ == "__main__":
    the_pump = Pump()
    storm(open_database(sys.argv[1], the_pump, server_name=SERVER_NAME), the_pump)

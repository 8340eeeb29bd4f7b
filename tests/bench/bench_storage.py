"""The database alone: appends of one message and of several together, and reading them back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import gatherResults

from storage.database import Database
from storage.events import load_events, timeline
from storage.ports import EventAppend, Transaction
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table
from tests.fixtures_db import PostgresServer, Pump
from tests.storage.histories import ALICE, Room

TIMES = 200


@pytest.mark.timeout(0)
def test_storage(database: Database, pump: Pump, postgres: PostgresServer) -> None:
    servers = (postgres.pid,) if database.dialect == "postgresql" else ()
    rooms = [Room(database.counters, f"room{n}") for n in range(8)]
    pump.wait(gatherResults([database.append(append) for room in rooms for append in room.create()]))
    meters: dict[str, Meter] = {}
    with calm_collector():
        for number in range(ROUNDS):
            for batch in (1, 8):
                units = [[say(room, f"{number} {n} {batch}") for room in rooms[:batch]] for n in range(TIMES)]
                meter = meters.setdefault(f"append a message, {batch} in a transaction", Meter(servers))
                with meter.running(TIMES * batch):
                    for unit in units:
                        pump.wait(gatherResults([database.append(append) for append in unit]))
            nids = list(range(database.counters.event - 50, database.counters.event))
            reading: list[tuple[str, Callable[[], object]]] = [
                ("read 1 event by its nid", lambda nids=nids: database.run(load_events, nids[:1])),  # type: ignore[misc]
                ("read 50 events by their nids", lambda nids=nids: database.run(load_events, nids)),  # type: ignore[misc]
                ("read 50 events of a timeline", lambda: database.run(timeline, rooms[0].nid, limit=50)),
            ]
            for name, read in reading:
                with meters.setdefault(name, Meter(servers)).running(TIMES):
                    for _ in range(TIMES):
                        pump.wait(read())  # type: ignore[arg-type]
            for meter in meters.values():
                meter.end_round()
    table = Table(f"Storage, {database.dialect}", ["CPU µs per operation", "process", "main thread", "database"])
    for name, meter in meters.items():
        table.add(name, meter.cost.process_us, meter.cost.main_us, meter.cost.database_us)
    table.print()


def say(room: Room, txn_id: str) -> EventAppend:
    path = f"send/{room.room_id}/m.room.message"
    return room.send(transaction=Transaction(ALICE, "DEVICE", path, txn_id))

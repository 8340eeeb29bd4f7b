"""SIGKILL in the middle of a storm of appends: what was answered is there, once, and every room stands."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

from storage import events, rooms
from storage.database import Database, open_database
from tests.fixtures_db import SERVER_NAME, Pump

KILLS = 4
ROOT = Path(__file__).parents[2]


def storm_until_killed(url: str, seconds: float) -> list[str]:
    """Event ids that were reported as durable."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.storm", url], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    killer = threading.Timer(seconds, process.kill)
    killer.start()
    answered = [first.strip(), *(line.strip() for line in process.stdout if line.endswith("\n"))]
    process.wait()
    killer.join()
    process.stdout.close()
    return answered


def test_killed_again_and_again(database_url: str, pump: Pump) -> None:
    chance = random.Random(7)
    answered: list[str] = []
    for _ in range(KILLS):
        answered += storm_until_killed(database_url, chance.uniform(0.05, 0.5))
        database = open_database(database_url, pump, server_name=SERVER_NAME)
        check(database, pump, answered)
        pump.wait(database.close())


def check(database: Database, pump: Pump, answered: list[str]) -> None:
    assert len(answered) > 10
    assert set(pump.wait(database.run(events.load_by_ids, answered))) == set(answered)
    seen: list[str] = []
    for nid in range(1, database.counters.room):
        loaded = pump.wait(database.run(rooms.load_room, nid))
        assert loaded is not None
        timeline = pump.wait(database.run(events.timeline, nid, limit=1_000_000))
        seen += [stored.event.event_id for stored in timeline]
        # The head is the newest event, and the state is what the events of the timeline made.
        assert loaded.head.extremities == (timeline[-1].event.event_id,)
        assert loaded.row.newest == timeline[-1].position < database.counters.position
        state = {
            (stored.event.type, stored.event.state_key): stored.nid
            for stored in timeline
            if stored.event.state_key is not None
        }
        assert {key: ref.nid for key, ref in loaded.state.items()} == state
    assert len(seen) == len(set(seen))
    assert set(answered) <= set(seen)

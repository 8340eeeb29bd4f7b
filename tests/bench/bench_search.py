"""Search in 100,000 messages: what it costs to keep the index, and to find rare and common words."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import accumulate
from pathlib import Path

import pytest

from homeserver.rooms.send import Sender
from homeserver.search.engine import Search, SearchAsk
from homeserver.sync.filters import NO_EVENT_FILTER, parse_event_filter
from storage.search import BODY, NAME, TOPIC, Order
from tests.bench.busy import BusyHouse, open_busy_house
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table
from tests.fixtures_db import PostgresServer

MESSAGES = int(os.environ.get("BENCH_SEARCH_MESSAGES", "100000"))
ROOMS = 50
VOCABULARY = 20_000
TIMES = 20


class Speaker:
    """Says things of ten words, of which few are common and most are rare, as in any language."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        words = {"".join(self._random.choices(letters, k=self._random.randint(2, 9))) for _ in range(VOCABULARY)}
        self.words = sorted(words, key=lambda word: (len(word), word))
        self._weights = list(accumulate(1 / (n + 5) for n in range(len(self.words))))

    def text(self) -> str:
        return " ".join(self._random.choices(self.words, cum_weights=self._weights, k=10))


def say(house: BusyHouse, speaker: Speaker, room_id: str) -> Awaitable[str]:
    content = {"msgtype": "m.text", "body": speaker.text()}
    sender = house.house.part(Sender)
    return sender.message(house.who("alice"), room_id, "m.room.message", content, f"s{house.next()}")


@pytest.mark.timeout(0)
def test_search(tmp_path: Path, database_url: str, postgres: PostgresServer) -> None:
    house = open_busy_house(tmp_path, database_url, (postgres.pid,) if database_url.startswith("postgresql") else ())
    rooms = [house.create("alice", preset="public_chat", name=f"Room {n}") for n in range(ROOMS)]
    speaker = Speaker()
    indexer = house.house.indexer
    house.wait(indexer.start())
    meters: dict[str, Meter] = {"keep the index: a message": house.meter()}
    with calm_collector():
        for start in range(0, MESSAGES, 1000):
            house.flow((partial(say, house, speaker, rooms[n % ROOMS]) for n in range(start, start + 1000)), 50)
            with meters["keep the index: a message"].running(1000):
                house.wait(indexer.catch_up())
        meters["keep the index: a message"].end_round()
        searches: list[tuple[str, str, Order]] = [
            ("a rare word", speaker.words[-1], "rank"),
            ("a word of one message in a hundred", speaker.words[100], "rank"),
            ("the most common word, by rank", speaker.words[0], "rank"),
            ("the most common word, by time", speaker.words[0], "recent"),
            ("two common words", f"{speaker.words[0]} {speaker.words[5]}", "rank"),
        ]
        filters = [("all rooms", NO_EVENT_FILTER), ("one room", parse_event_filter({"rooms": rooms[:1]}))]
        for _ in range(ROUNDS):
            for where, filter in filters:
                for name, term, order in searches:
                    ask = SearchAsk(house.user("alice"), term, (BODY, NAME, TOPIC), filter, order, 10)
                    search: Callable[[], Awaitable[object]] = partial(house.house.part(Search).search, ask)
                    meter = meters.setdefault(f"{name}, {where}", house.meter())
                    with meter.running(TIMES):
                        for _ in range(TIMES):
                            house.wait(search())
                    meter.end_round()
    table = Table(
        f"Search in {MESSAGES:,} messages, {house.house.database.dialect}",
        ["CPU µs per operation", "process", "main thread", "database"],
    )
    for name, meter in meters.items():
        table.add(name, meter.cost.process_us, meter.cost.main_us, meter.cost.database_us)
    table.print()
    house.wait(house.house.close())

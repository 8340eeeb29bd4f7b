"""What one more reader costs: a message to a room in which so many people follow along, waiting or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.internet.defer import gatherResults

from tests.bench.busy import LAZY, OPEN, BusyHouse, next_batch, open_busy_house
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table

READERS = (10, 100, 1_000)
MESSAGES = 10
WAIT_MS = 30_000
FILTERS = {"lazy members": LAZY, "everything": OPEN}


@pytest.mark.timeout(0)
def test_fan_out(tmp_path: Path) -> None:
    table = Table("Fan-out to readers below HTTP, SQLite", ["CPU µs", *(f"{count:,}" for count in READERS)])
    rows: dict[str, list[float]] = {}
    for count in READERS:
        house = open_busy_house(tmp_path / str(count), f"sqlite:///{tmp_path / f'{count}.db'}")
        for name, cost in measure(house, count).items():
            rows.setdefault(name, []).append(cost)
        house.wait(house.house.close())
    for name, costs in rows.items():
        table.add(name, *costs)
    table.print()


def measure(house: BusyHouse, count: int) -> dict[str, float]:
    room_id = house.create("m0", preset="public_chat", name="Listeners")
    names = [f"m{n}" for n in range(count)]
    house.join_all(names[1:], room_id)
    house.wait(house.message("m0", room_id))
    tokens = [house.token(name) for name in names]
    asleep = house.meter()
    woken = {name: house.meter() for name in FILTERS}
    waiting = {name: house.meter() for name in FILTERS}
    with calm_collector():
        for _ in range(ROUNDS):
            with asleep.running(MESSAGES * 10):
                for _ in range(MESSAGES * 10):
                    house.wait(house.message("m0", room_id))
            for name, filter in FILTERS.items():
                tokens = [next_batch(house.wait(house.poll(house.who(one), None, filter))) for one in names]
                tokens = tell(house, room_id, names, tokens, name, woken[name], waiting[name])
            for meter in (asleep, *woken.values(), *waiting.values()):
                meter.end_round()
    found = {"one message, all with an active feed, nobody waits": asleep.cost.all_us}
    for name in FILTERS:
        found[f"a long poll that begins to wait, {name}"] = waiting[name].cost.all_us
        found[f"one message to all who wait, per copy, {name}"] = woken[name].cost.all_us
    return found


def tell(
    house: BusyHouse,
    room_id: str,
    names: Sequence[str],
    tokens: Sequence[str],
    kind: str,
    woken: Meter,
    waiting: Meter,
) -> list[str]:
    """Everybody waits, and hears of one message after the other. Answers their new tokens."""
    for _ in range(MESSAGES):
        with waiting.running(len(names)):
            polls = [
                house.poll(house.who(name), since, FILTERS[kind], WAIT_MS)
                for name, since in zip(names, tokens, strict=True)
            ]
        with woken.running(len(names)):
            house.wait(house.message(names[0], room_id))
            answers = house.wait(gatherResults(polls))
        assert all(TEXT_BYTES in answer for answer in answers)
        tokens = [next_batch(answer) for answer in answers]
    return list(tokens)


TEXT_BYTES = b"people write"

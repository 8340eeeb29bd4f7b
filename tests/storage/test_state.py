"""Snapshots against plain dicts: whatever is written is read back, by few steps, from few rows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map

from federation.room.event import StateKey
from storage import state, strings
from storage.database import Database
from storage.ports import Cursor, NewSnapshot
from tests.fixtures_db import Pump

ROOM = 1
Model = Map[StateKey, int]


class Chain:
    """Snapshots of one room and what each must hold. Event nids need no events here."""

    def __init__(self, database: Database, pump: Pump) -> None:
        self.database = database
        self.pump = pump
        self.models: dict[int, Model] = {0: Map()}
        self.changes = 0

    def extend(self, *steps: tuple[int, list[tuple[StateKey, int]]]) -> list[int]:
        """Write snapshots as (parent, delta), all in one transaction; their nids."""
        snapshots: list[NewSnapshot] = []
        for parent, delta in steps:
            nid = self.database.counters.snapshot
            self.database.counters.snapshot += 1
            model = self.models[parent]
            for key, event_nid in delta:
                if event_nid:
                    model = model.set(key, event_nid)
                elif key in model:
                    model = model.delete(key)
            self.models[nid] = model
            self.changes += len(delta)
            snapshots.append(NewSnapshot(nid, parent, delta))
        self.pump.wait(self.database.write(write, snapshots))
        return [snapshot.nid for snapshot in snapshots]

    def read(self, nid: int, keys: list[StateKey] | None = None, types: list[str] | None = None) -> dict[StateKey, int]:
        return self.pump.wait(self.database.run(state.read_state, nid, keys, types))

    def ask(self, sql: str, *parameters: Any) -> Any:
        row = self.pump.wait(self.database.run(lambda cursor: cursor.execute(sql, parameters).fetchone()))
        assert row is not None
        return row[0]

    def steps(self, nid: int) -> int:
        """How many snapshots lie on the way from this one to the empty state."""
        return int(
            self.ask(
                "WITH RECURSIVE chain(nid, base) AS (SELECT nid, base FROM state_snapshots WHERE nid = ?"
                " UNION ALL SELECT s.nid, s.base FROM chain JOIN state_snapshots s ON s.nid = chain.base)"
                " SELECT COUNT(*) FROM chain",
                nid,
            )
        )

    def rows(self) -> int:
        return int(self.ask("SELECT COUNT(*) FROM state_deltas"))


def write(cursor: Cursor, snapshots: list[NewSnapshot]) -> None:
    nids = strings.intern_many(cursor, {text for each in snapshots for key, _ in each.delta for text in key})
    state.write_snapshots(cursor, [(ROOM, snapshot) for snapshot in snapshots], nids)


@pytest.fixture
def chain(database: Database, pump: Pump) -> Chain:
    return Chain(database, pump)


keys = st.tuples(
    st.sampled_from(["m.room.member", "m.room.topic", "nul\0"]), st.sampled_from(["", "@a:x", "@b:x", "@c"])
)
deltas = st.dictionaries(keys, st.integers(0, 50), max_size=4).map(lambda delta: list(delta.items()))


def test_snapshots_hold_what_the_model_holds(chain: Chain) -> None:
    """Trees of snapshots with small and large steps, forks anywhere, over several transactions."""

    @settings(max_examples=40)
    @given(
        data=st.data(),
        batches=st.lists(
            st.lists(st.tuples(st.floats(0, 1), deltas, st.sampled_from([0, 0, 0, 1, 60, 70])), max_size=4), max_size=4
        ),
    )
    def check(data: st.DataObject, batches: list[list[tuple[float, list[tuple[StateKey, int]], int]]]) -> None:
        mine = [0]
        for batch in batches:
            steps: list[tuple[int, list[tuple[StateKey, int]]]] = []
            coming = list(mine)
            following = chain.database.counters.snapshot
            for where, delta, run in batch:
                steps.append((coming[int(where * (len(coming) - 1))], delta))
                coming.append(following)
                following += 1
                for number in range(run):
                    steps.append((following - 1, [(("m.room.member", f"@{number % 7}:x"), number + 1)]))
                    coming.append(following)
                    following += 1
            mine += chain.extend(*steps)
        for nid in mine[-3:] + mine[:: max(1, len(mine) // 5)]:
            model = chain.models[nid]
            assert chain.read(nid) == dict(model)
            some = data.draw(st.lists(keys, max_size=5), label="keys")
            assert chain.read(nid, some) == {key: model[key] for key in some if key in model}
            assert chain.read(nid, types=["m.room.member", "none"]) == {
                key: event for key, event in model.items() if key[0] == "m.room.member"
            }
            assert chain.steps(nid) <= 3 * state.FAN_OUT

    check()


def test_the_way_down_stays_short_and_rows_few(chain: Chain) -> None:
    """Ten thousand joins: each is written at most once per level."""
    last = 0
    for start in range(0, 10_000, 500):
        steps = []
        for number in range(start, start + 500):
            steps.append((last, [(("m.room.member", f"@user{number}:x"), number + 1)]))
            last = chain.database.counters.snapshot + len(steps) - 1
        chain.extend(*steps)
        assert chain.steps(last) <= 3 * state.FAN_OUT
    assert chain.read(last) == dict(chain.models[last])
    assert chain.rows() <= 3.1 * chain.changes
    assert chain.ask("SELECT path_rows FROM state_snapshots WHERE nid = ?", last) == 10_000
    middle = last - 5_000
    assert chain.read(middle) == dict(chain.models[middle])


def test_keys_that_change_all_the_time_do_not_make_reading_long(chain: Chain) -> None:
    last = 0
    for start in range(0, 10_000, 500):
        steps = []
        for number in range(start, start + 500):
            steps.append((last, [(("m.room.member", f"@user{number % 300}:x"), number + 1)]))
            last = chain.database.counters.snapshot + len(steps) - 1
        chain.extend(*steps)
    assert chain.read(last) == dict(chain.models[last])
    assert chain.rows() <= 3.1 * chain.changes
    # Twice the state, and what may come until it is weighed again.
    path_rows = chain.ask("SELECT path_rows FROM state_snapshots WHERE nid = ?", last)
    assert path_rows <= 2 * 300 + state.WEIGH_ROWS + 2 * state.WEIGH_HEIGHT


def test_large_deltas_are_weighed_at_once(chain: Chain) -> None:
    """Resolution that changes its mind about a thousand members again and again."""
    members: list[StateKey] = [("m.room.member", f"@user{number}:x") for number in range(1000)]
    last = 0
    for turn in range(1, 21):
        (last,) = chain.extend((last, [(key, turn) for key in members]))
        assert chain.ask("SELECT path_rows FROM state_snapshots WHERE nid = ?", last) <= 2 * 1000 + state.WEIGH_ROWS
    assert chain.read(last) == dict.fromkeys(members, 20)
    (last,) = chain.extend((last, [(key, 0) for key in members[1:]]))
    assert chain.read(last) == {members[0]: 20}


def test_a_snapshot_may_change_nothing(chain: Chain) -> None:
    first, second = chain.extend((0, []), (0, [(("m.room.name", ""), 7)]))
    (third,) = chain.extend((second, []))
    assert chain.read(first) == {}
    assert chain.read(third) == {("m.room.name", ""): 7}


def test_parents_must_be_there(chain: Chain, database: Database, pump: Pump) -> None:
    with pytest.raises(LookupError):
        pump.wait(database.write(write, [NewSnapshot(8, 7, [])]))
    with pytest.raises(ValueError, match="greater"):
        pump.wait(database.write(write, [NewSnapshot(5, 6, [])]))

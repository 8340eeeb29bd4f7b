"""The chain cover against a plain walk over the auth graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.room.event import StateKey
from storage import auth_chains
from storage.database import Database
from storage.ports import EventAppend, NewEvent
from tests.fixtures_db import Pump
from tests.storage.histories import ALICE, SERVER, Room, append_all

TYPES = ("m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.member", "m.room.topic")


class Graph:
    """State events with auth events of any shape, by number, as outliers of one room."""

    def __init__(self, database: Database, pump: Pump) -> None:
        self.database = database
        self.pump = pump
        self.room = Room(database.counters)
        self.nids: list[int] = []
        self.ids: list[str] = []
        self.cited: list[list[int]] = []

    def add(self, *events: tuple[str, Collection[int]]) -> None:
        """Append (type, numbers of the cited events) in one unit."""
        new: list[NewEvent] = []
        for event_type, cited in events:
            number = len(self.ids)
            event = self.room.event(
                event_type, {"number": number}, state_key=str(number), auth_events=[self.ids[each] for each in cited]
            )
            stored = self.room.store(event, position=0)
            self.ids.append(event.event_id)
            self.nids.append(stored.nid)
            self.cited.append(sorted(cited))
            new.append(NewEvent(stored))
        append = EventAppend(self.room.nid, new, None, new_room=self.room.take_new_room())
        append_all(self.pump, self.database, append)

    def auth_chain(self, numbers: Iterable[int]) -> set[int]:
        """The events and all that they cite, however indirectly."""
        found: set[int] = set()
        todo = list(numbers)
        while todo:
            number = todo.pop()
            if number not in found:
                found.add(number)
                todo += self.cited[number]
        return found

    def difference(self, forks: Collection[Collection[int]]) -> set[int]:
        """By the index: of whole forks, and of what is their own, which must come to the same."""
        whole = [{self.nids[each] for each in fork} for fork in forks]
        nids = self.pump.wait(self.database.run(auth_chains.auth_difference, whole))
        shared: set[int] = set.intersection(*whole) if whole else set()

        def held(key: StateKey, nid: int) -> bool:
            assert self.nids[int(key[1])] == nid
            return nid in shared

        own = [fork - shared for fork in whole]
        assert self.pump.wait(self.database.run(auth_chains.auth_difference, own, held)) == nids
        return {self.nids.index(nid) for nid in nids}

    def remembering(
        self, forks: Collection[Collection[int]], shared: Collection[int], refuted: dict[int, int]
    ) -> set[int]:
        """By the index, of what the forks have besides what they share, with what was learnt before."""
        held = {self.nids[each] for each in shared}
        own = [{self.nids[each] for each in fork} - held for fork in forks]
        nids = self.pump.wait(self.database.run(auth_chains.auth_difference, own, lambda _, nid: nid in held, refuted))
        return {self.nids.index(nid) for nid in nids}

    def subgraph(self, conflicted: Collection[int]) -> set[int]:
        """By the index."""
        nids = self.pump.wait(
            self.database.run(auth_chains.conflicted_subgraph, [self.nids[each] for each in conflicted])
        )
        return {self.nids.index(nid) for nid in nids}

    def chain(self, numbers: Collection[int]) -> set[int]:
        """By the index."""
        nids = self.pump.wait(self.database.run(auth_chains.auth_chain, [self.nids[each] for each in numbers]))
        return {self.nids.index(nid) for nid in nids}

    def walked_chain(self, numbers: Collection[int]) -> set[int]:
        return self.auth_chain(cited for number in numbers for cited in self.cited[number])

    def walked_difference(self, forks: Collection[Collection[int]]) -> set[int]:
        """And those that not all forks have."""
        chains = [self.auth_chain(fork) for fork in forks]
        somewhere: set[int] = set().union(*chains)
        conflicted = {number for fork in forks for number in fork if not all(number in other for other in forks)}
        return conflicted | {number for number in somewhere if not all(number in chain for chain in chains)}

    def walked_subgraph(self, conflicted: Collection[int]) -> set[int]:
        return {
            number for number in self.auth_chain(conflicted) if not self.auth_chain([number]).isdisjoint(conflicted)
        }


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, set[int]]]:
    """Events that cite a few of those before them, recent ones rather than old ones."""
    events: list[tuple[str, set[int]]] = [("m.room.create", set())]
    for number in range(1, draw(st.integers(1, 25))):
        near = st.integers(max(0, number - 4), number - 1)
        far = st.integers(0, number - 1)
        events.append((draw(st.sampled_from(TYPES)), draw(st.sets(near | far, max_size=4))))
    return events


def test_the_index_agrees_with_a_walk(database: Database, pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_chains, "FEW_LINKS", 2)  # so that small graphs have places that many cite

    @settings(max_examples=60 if database.dialect == "sqlite" else 25)
    @given(data=st.data(), events=graphs(), cuts=st.sets(st.integers(1, 24), max_size=3))
    def check(data: st.DataObject, events: list[tuple[str, set[int]]], cuts: set[int]) -> None:
        graph = Graph(database, pump)
        edges = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
        for start, end in pairwise(edges):
            graph.add(*events[start:end])
        some = st.sets(st.integers(0, len(events) - 1), max_size=6)
        for _ in range(4):
            forks = data.draw(st.lists(some, min_size=2, max_size=4), label="forks")
            shared = data.draw(some, label="in all forks")
            forks = [fork | shared for fork in forks]
            assert graph.difference(forks) == graph.walked_difference(forks)
            conflicted = data.draw(some, label="conflicted")
            assert graph.subgraph(conflicted) == graph.walked_subgraph(conflicted)
            assert graph.chain(conflicted) == graph.walked_chain(conflicted)

    check()


def test_what_was_learnt_holds_for_as_long_as_less_is_shared(database: Database, pump: Pump) -> None:
    @settings(max_examples=60 if database.dialect == "sqlite" else 25)
    @given(data=st.data(), events=graphs())
    def check(data: st.DataObject, events: list[tuple[str, set[int]]]) -> None:
        graph = Graph(database, pump)
        graph.add(*events[: len(events) // 2 + 1])
        refuted: dict[int, int] = {}
        numbers = st.integers(0, len(events) // 2)
        shared = data.draw(st.sets(numbers, max_size=8), label="shared")
        for _ in range(4):
            forks = [
                shared | fork for fork in data.draw(st.lists(st.sets(numbers, max_size=4), min_size=2, max_size=3))
            ]
            common = forks[0].intersection(*forks[1:])
            assert graph.remembering(forks, common, {}) == graph.walked_difference(forks)
            if common == shared:
                assert graph.remembering(forks, shared, refuted) == graph.walked_difference(forks)
            for event in events[len(graph.ids) : len(graph.ids) + 3]:
                graph.add(event)
                numbers = st.integers(0, len(graph.ids) - 1)
            shared -= data.draw(st.sets(st.sampled_from(sorted(shared)), max_size=2)) if shared else set()

    check()


def test_without_memory_of_earlier_events(database: Database, pump: Pump) -> None:
    """After a restart the writer reads places and tips from the tables: forgetting them all is the same."""
    graph = Graph(database, pump)
    graph.add(("m.room.create", []), ("m.room.member", [0]), ("m.room.power_levels", [0, 1]))

    def forget(cursor: object) -> None:
        memory = database._writer._memory
        memory.chain_places._memory._young.clear()
        memory.chain_tips._memory._young.clear()

    pump.wait(database.write(forget))
    graph.add(("m.room.member", [0, 2]), ("m.room.power_levels", [0, 1, 2]), ("m.room.power_levels", [0, 1, 2]))
    forks = [[3, 4], [3, 5], [1, 2]]
    assert graph.difference(forks) == graph.walked_difference(forks)


def test_a_thousand_members_cost_a_link_or_two_each(database: Database, pump: Pump) -> None:
    room = Room(database.counters)
    append_all(pump, database, *room.create(), *(room.member(f"@user{n}:{SERVER}", "join") for n in range(1000)))
    links = pump.wait(database.run(lambda cursor: cursor.execute("SELECT COUNT(*) FROM auth_chain_links").fetchone()))
    assert links is not None
    assert links[0] <= 2 * 1000
    # Two forks that differ in the power levels, of which everybody's chain has the old ones.
    everybody = {ref.nid for ref in room.state.values()}
    append = room.set("m.room.power_levels", "", {"users": {ALICE: 100, f"@user1:{SERVER}": 50}})
    append_all(pump, database, append)
    other = {ref.nid for ref in room.state.values()}
    assert pump.wait(database.run(auth_chains.auth_difference, [everybody, other])) == everybody ^ other


def test_a_long_chain_is_searched_and_not_walked(
    database: Database, pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who changes their name three hundred times, on one side of a fork."""
    graph = Graph(database, pump)
    graph.add(("m.room.create", []), ("m.room.member", [0]), *(("m.room.member", [0, n]) for n in range(1, 300)))
    asked: list[int] = []
    is_under = auth_chains._Graph._is_under

    def count(self: auth_chains._Graph, tops: auth_chains.Held, chain: int, seq: int) -> bool:
        asked.append(seq)
        return is_under(self, tops, chain, seq)

    monkeypatch.setattr(auth_chains._Graph, "_is_under", count)
    for forks in ([[0, 300], [0, 1]], [[0, 300], [0, 150]], [[0, 150, 300], [0, 150]]):
        assert graph.difference(forks) == graph.walked_difference(forks)
    assert 0 < len(asked) < 150


def test_forks_that_agree_differ_in_nothing(database: Database, pump: Pump) -> None:
    graph = Graph(database, pump)
    graph.add(("m.room.create", []), ("m.room.member", [0]))
    assert graph.difference([]) == set()
    assert graph.difference([[0, 1]]) == set()
    assert graph.difference([[0, 1], [0, 1]]) == set()
    assert graph.difference([[], [1]]) == {0, 1}


def test_an_event_without_a_place_is_an_error(database: Database, pump: Pump) -> None:
    with pytest.raises(LookupError):
        pump.wait(database.run(auth_chains.auth_difference, [[7], [8]]))

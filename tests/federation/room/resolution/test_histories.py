"""Stories of rooms that forked, received in every manner: there must be one outcome, and it must be the story's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from federation.room.auth import Refused
from federation.room.event import Event
from federation.room.resolution import MissingEvent, StateMap, find_conflict, resolve
from federation.room.versions import RoomVersion
from tests.federation.room.history import History, Resolver, Server, plain_resolver, read_history, versions_of
from tests.federation.room.resolution import reference

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
TOLD = [pytest.param(path, version, id=f"{path.stem}-{version}") for path in HISTORIES for version in versions_of(path)]


def with_index(
    version: RoomVersion, forks: Sequence[StateMap], events: Mapping[str, Event], rejected: Mapping[str, Refused]
) -> StateMap:
    """Resolve with the auth difference and the subgraph given, and no more events at hand than these call for."""
    if not forks:
        return {}
    difference = reference.auth_difference(forks, events)
    subgraph = reference.conflicted_subgraph(find_conflict(version, forks), events)
    at_hand: dict[str, Event] = {}
    for _ in range(20):
        try:
            return resolve(version, forks, at_hand, rejected, difference, subgraph)
        except MissingEvent as missing:
            at_hand |= {event_id: events[event_id] for event_id in missing.event_ids}
    raise AssertionError("too many attempts")


def with_nothing_at_hand(
    version: RoomVersion, forks: Sequence[StateMap], events: Mapping[str, Event], rejected: Mapping[str, Refused]
) -> StateMap:
    """Resolve by fetching what turns out to be missing."""
    at_hand: dict[str, Event] = {}
    while True:
        try:
            return resolve(version, forks, at_hand, rejected)
        except MissingEvent as missing:
            assert not set(missing.event_ids) & set(at_hand)
            at_hand |= {event_id: events[event_id] for event_id in missing.event_ids}


RESOLVERS: dict[str, Resolver] = {
    "by walking": plain_resolver,
    "by an index": with_index,
    "by fetching": with_nothing_at_hand,
}


def check_outcome(history: History, server: Server) -> None:
    assert set(server.refused) == history.refused, server.refused
    state = server.current_state()
    if history.forks is not None:
        state = server.resolver(history.version, history.forks, server.events, server.refused)
    assert {key: state.get(key) for key in history.expected} == history.expected


def in_another_order(events: Sequence[Event], seed: int) -> list[Event]:
    """Some order in which nothing comes before what it comes after or cites."""
    chance = random.Random(seed)
    waiting = list(events)
    chance.shuffle(waiting)
    received: dict[str, Event] = {}
    while waiting:
        event = next(e for e in waiting if received.keys() >= {*e.prev_events, *e.auth_events})
        received[event.event_id] = event
        waiting.remove(event)
    return list(received.values())


@pytest.mark.parametrize(("path", "version"), TOLD)
@pytest.mark.parametrize("resolver", RESOLVERS.values(), ids=RESOLVERS)
def test_event_by_event(path: Path, version: str, resolver: Resolver) -> None:
    """Each event finds the state resolved that it is judged by, and so do the people in the room."""
    history = read_history(path, version)
    server = Server(history.version, resolver)
    for event in history.events:
        server.receive(event)
        server.current_state()
    check_outcome(history, server)


@pytest.mark.parametrize(("path", "version"), TOLD)
@pytest.mark.parametrize("seed", range(5))
def test_in_batches_and_in_another_order(path: Path, version: str, seed: int) -> None:
    history = read_history(path, version)
    server = Server(history.version)
    events = in_another_order(history.events, seed)
    for start in range(0, len(events), 3):
        for event in events[start : start + 3]:
            server.receive(event)
        server.current_state()
    check_outcome(history, server)


@pytest.mark.parametrize(("path", "version"), TOLD)
@pytest.mark.parametrize("resolver", RESOLVERS.values(), ids=RESOLVERS)
def test_at_once(path: Path, version: str, resolver: Resolver) -> None:
    """All events are there, and the state is resolved of the last ones only, in whatever order they are given."""
    history = read_history(path, version)
    server = Server(history.version)
    for event in history.events:
        server.receive(event)
    forks = history.forks or [server.state_after[event_id] for event_id in server.extremities]
    outcomes = [
        resolver(history.version, some, server.events, server.refused)
        for some in (forks, forks[::-1], [*forks, *forks[:1]])
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert {key: outcomes[0].get(key) for key in history.expected} == history.expected


@pytest.mark.parametrize(("path", "version"), TOLD)
def test_an_agreed_resolution_is_final(path: Path, version: str) -> None:
    """Once an event has come after all forks, its state is the room's, and resolving it with itself changes nothing."""
    history = read_history(path, version)
    server = Server(history.version)
    for event in history.events:
        server.receive(event)
    state = server.current_state()
    assert resolve(history.version, [state, state], server.events) == state

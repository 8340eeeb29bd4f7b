"""State resolution over events that never should have been: it gives a state out of them, or says what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.parse import load_event, parse_pdu
from federation.room.resolution import MissingEvent, StateMap, resolve
from federation.room.versions import RoomVersion
from tests.fuzz.mutate import as_json
from tests.fuzz.rounds import TIMEOUT_S, Play
from tests.fuzz.test_room import ROOMS, VERSIONS, Room

pytestmark = pytest.mark.timeout(TIMEOUT_S)


def _pool(chance: Random, start: Room) -> dict[str, Event]:
    """The room's events, and spoiled ones that cite any of all of them: themselves and in circles too, where the
    sender chooses an event's id."""
    version = start.version
    pool = {event.event_id: event for event in start.events}
    for _ in range(chance.randrange(1, 12)):
        event = start.spoiled(chance)
        if event is not None:
            pool[event.event_id] = event
    for event in list(pool.values())[len(start.events) :]:
        fields = event.to_json()
        cited = chance.sample(list(pool), min(len(pool), chance.randrange(0, 8)))
        fields["auth_events"] = [[each, {"sha256": "x"}] for each in cited] if version.cites_with_hashes else cited
        fields["origin_server_ts"] = chance.choice((0, 1, 1, 2**53 - 1))
        fields["depth"] = chance.choice((0, 1, 2**53 - 1))
        rewritten = _rewrite(version, fields)
        if rewritten is not None:
            pool[rewritten.event_id] = rewritten
    return pool


def _rewrite(version: RoomVersion, fields: Mapping[str, Any]) -> Event | None:
    try:
        event = parse_pdu(version, as_json(dict(fields)))
    except BadEvent:
        return None
    return load_event(version, event.event_id, event.raw)


def _fork(chance: Random, pool: Mapping[str, Event]) -> StateMap:
    states = [event for event in pool.values() if event.state_key is not None]
    chosen = chance.sample(states, chance.randrange(len(states) + 1))
    return {(event.type, event.state_key): event.event_id for event in chosen if event.state_key is not None}


def test_resolution(play: Play) -> None:
    def check(chance: Random) -> None:
        version = chance.choice(VERSIONS)
        pool = _pool(chance, ROOMS[version])
        forks = [_fork(chance, pool) for _ in range(chance.randrange(1, 5))]
        rejected = set(chance.sample(list(pool), chance.randrange(3)))
        known = dict(pool)
        if chance.random() < 0.3:
            del known[chance.choice(list(known))]
        try:
            outcome = resolve(version, forks, known, rejected)
        except MissingEvent as missing:
            assert missing.event_ids and not set(missing.event_ids) & known.keys()
            return
        assert set(outcome.values()) <= pool.keys()
        for key, event_id in outcome.items():
            event = pool[event_id]
            assert key == (event.type, event.state_key)
        assert resolve(version, forks[::-1], known, rejected) == outcome

    assert play(check) > 0

"""The law of `/sync`: however often one asks, and with whatever limits, what one is told adds up to the same.

A model client keeps, for each room it is in, the state and the timeline as a client does: `state` is laid over what it
has, then the timeline's state events; a limited timeline starts anew at its `prev_batch`, and the gap is read by
`/messages`. At the end it must hold what a first sync and the whole history say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from attrs import define, field
from hypothesis import HealthCheck, given, settings

from homeserver.streams.tokens import parse_room_token
from tests.fixtures_house import LivedInHouse, open_house
from tests.sync.stories import act, numbers

PEOPLE = ("alice", "bob", "carol")
READER = "bob"

Key = tuple[str, str]


@define
class Room:
    """One room as the model client has it."""

    state: dict[Key, str] = field(factory=dict)
    timeline: list[str] = field(factory=list)
    """Event ids, oldest first, without gaps."""


@define
class ModelClient:
    house: LivedInHouse
    since: str | None = None
    rooms: dict[str, Room] = field(factory=dict)

    def sync(self, limit: int, use_state_after: bool) -> None:
        manner: dict[str, Any] = {"room": {"timeline": {"limit": limit}}}
        before = self.since
        answer = self.house.sync(READER, before, filter=manner, use_state_after=use_state_after)
        self.since = answer["next_batch"]
        rooms = answer.get("rooms", {})
        for room_id in rooms.get("leave", {}):
            self.rooms.pop(room_id, None)
        for room_id, section in rooms.get("join", {}).items():
            self._take(room_id, section, use_state_after)

    def _take(self, room_id: str, section: dict[str, Any], use_state_after: bool) -> None:
        room = self.rooms.setdefault(room_id, Room())
        events = section["timeline"]["events"]
        if use_state_after:
            changed = section["state_after"]["events"]
        else:
            changed = section["state"]["events"] + [event for event in events if "state_key" in event]
        for event in changed:
            room.state[event["type"], event["state_key"]] = event["event_id"]
        if section["timeline"]["limited"]:
            gap = self._read_gap(room_id, section["timeline"]["prev_batch"], set(room.timeline))
            room.timeline += gap
        room.timeline += [event["event_id"] for event in events if event["event_id"] not in room.timeline]

    def _read_gap(self, room_id: str, prev_batch: str, known: set[str]) -> list[str]:
        start = parse_room_token(prev_batch)
        page = self.house.page(READER, room_id, start, None)
        return [event_id for event_id in reversed(page) if event_id not in known]


says = st.tuples(st.just("say"), st.just("alice"), st.integers(0, 1), st.integers(1, 6))
acts = st.tuples(
    st.sampled_from(("say", "topic", "topic", "join", "leave", "forget what is in memory")),
    st.sampled_from(PEOPLE),
    st.integers(0, 1),
    st.integers(1, 2),
)
Act = tuple[str, str, int, int]
turns = st.tuples(st.lists(st.one_of(says, acts), min_size=1, max_size=6), st.integers(1, 4), st.booleans())
Turn = tuple[list[Act], int, bool]
"""What happens, and how the reader syncs afterwards."""


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(story=st.lists(turns, min_size=1, max_size=6))
def test_small_syncs_add_up_to_a_large_one(tmp_path: Path, story: list[Turn]) -> None:
    number = next(numbers)
    house = open_house(tmp_path, f"sqlite:///{tmp_path}/{number}.db")
    try:
        _live(house, story)
    finally:
        house.wait(house.house.close())


def _live(house: LivedInHouse, story: list[Turn]) -> None:
    power = {"events": {"m.room.topic": 0}}
    rooms = [house.create("alice", preset="public_chat", power_level_content_override=power) for _ in range(2)]
    house.join(READER, rooms[0])
    client = ModelClient(house)
    client.sync(3, False)
    for acts, limit, use_state_after in story:
        for kind, who, which, count in acts:
            act(house, READER, kind, who, rooms[which], count)
        client.sync(limit, use_state_after)
    _compare(house, client)


def _compare(house: LivedInHouse, client: ModelClient) -> None:
    whole = house.sync(READER, filter={"room": {"timeline": {"limit": 1}}}, use_state_after=True)
    joined = whole.get("rooms", {}).get("join", {})
    assert set(client.rooms) == set(joined)
    for room_id, section in joined.items():
        room = client.rooms[room_id]
        state = {(event["type"], event["state_key"]): event["event_id"] for event in section["state_after"]["events"]}
        assert room.state == state
        assert room.timeline == house.page(READER, room_id, None, None)[::-1]

"""The law of sliding sync: whatever window one looks through, and however often, what one is told adds up to what a
fresh `/sync` says.

A model client keeps rooms as a client does: what is `initial` begins anew, state is laid over what it has, and a gap is
read by `/messages` from `prev_batch`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from attrs import define, field
from hypothesis import HealthCheck, given, settings

from homeserver.streams.tokens import parse_room_token
from tests.fixtures_house import LivedInHouse, open_house
from tests.fixtures_rooms import user
from tests.sync.sliding.slider import Slider, rooms, subscription
from tests.sync.stories import act, numbers

PEOPLE = ("alice", "bob", "carol")
READER = "bob"
ROOMS = 3
EVERYTHING = [["*", "*"]]

Key = tuple[str, str]


@define
class Room:
    state: dict[Key, str] = field(factory=dict)
    timeline: list[str] = field(factory=list)
    joined: int = 0


@define
class ModelClient:
    house: LivedInHouse
    slider: Slider
    rooms: dict[str, Room] = field(factory=dict)

    def look(self, last: int, limit: int, subscribed: list[str], retry: bool = False) -> None:
        lists = {"all": rooms(0, last, limit=limit, state=EVERYTHING)}
        subscriptions = {room_id: subscription(limit=limit + 1, state=EVERYTHING) for room_id in subscribed}
        pos = self.slider.pos
        answer = self.slider.ask(lists=lists, room_subscriptions=subscriptions)
        if retry and pos is not None:  # the answer got lost
            self.slider.pos = pos
            answer = self.slider.ask()
        for room_id, told in answer["rooms"].items():
            self._take(room_id, told)

    def _take(self, room_id: str, told: dict[str, Any]) -> None:
        room = self.rooms[room_id] = Room() if told.get("initial") else self.rooms[room_id]
        for event in told["required_state"]:
            room.state[event["type"], event["state_key"]] = event["event_id"]
            if event["state_key"] == user(READER) and event["content"].get("membership") in ("leave", "ban"):
                del self.rooms[room_id]
                return
        room.joined = told.get("joined_count", room.joined)
        if told["limited"]:
            start = parse_room_token(told["prev_batch"])
            gap = self.house.page(READER, room_id, start, None)
            room.timeline += [event_id for event_id in reversed(gap) if event_id not in room.timeline]
        shown = [event["event_id"] for event in told["timeline"]]
        room.timeline += [event_id for event_id in shown if event_id not in room.timeline]


acts = st.tuples(
    st.sampled_from(("say", "say", "say", "topic", "topic", "join", "leave", "forget what is in memory")),
    st.sampled_from(PEOPLE),
    st.integers(0, ROOMS - 1),
    st.integers(1, 4),
)
Act = tuple[str, str, int, int]
turns = st.tuples(
    st.lists(acts, min_size=1, max_size=6), st.integers(0, ROOMS - 1), st.integers(1, 4),
    st.sets(st.integers(0, ROOMS - 1), max_size=2), st.booleans(),
)  # fmt: skip
Turn = tuple[list[Act], int, int, set[int], bool]
"""What happens; then the last room of the reader's window, its limit, what it subscribes to, whether an answer is
lost."""


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(story=st.lists(turns, min_size=1, max_size=6))
def test_small_windows_add_up_to_the_whole(tmp_path: Path, story: list[Turn]) -> None:
    number = next(numbers)
    house = open_house(tmp_path, f"sqlite:///{tmp_path}/{number}.db")
    try:
        _live(house, story)
    finally:
        house.wait(house.house.close())


def _live(house: LivedInHouse, story: list[Turn]) -> None:
    power = {"events": {"m.room.topic": 0}}
    ids = [house.create("alice", preset="public_chat", power_level_content_override=power) for _ in range(ROOMS)]
    house.join(READER, ids[0])
    client = ModelClient(house, Slider(house, READER))
    for acts, last, limit, subscribed, retry in story:
        for kind, who, which, count in acts:
            act(house, READER, kind, who, ids[which], count)
        client.look(last, limit, [ids[which] for which in sorted(subscribed)], retry)
    client.look(ROOMS, 2, [])
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
        assert room.joined == section["summary"]["m.joined_member_count"]

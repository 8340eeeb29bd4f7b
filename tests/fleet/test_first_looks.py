"""What somebody is shown who has nothing of a room yet, where a peer's events came late: docs/decisions/0015.

Who pages back from there finds each event once, whatever is held back, hidden or filtered away.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings

from homeserver.client.messages import Messages, get_messages
from homeserver.clock import Clock
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import History
from homeserver.streams.tokens import parse_room_token
from storage.events import load_by_ids
from tests.fixtures_fleet import Fleet, Member
from tests.sync.sliding.slider import Slider, rooms

NOISE = "org.example.noise"
POWER = {"events": {"m.room.topic": 0, "m.room.name": 0}}


@define
class Scene:
    """Alice's room on a, in which Bob of b is; what Bob says comes late, on forks."""

    a: Member
    b: Member
    room_id: str
    said: list[str] = field(factory=list)

    @classmethod
    def open(cls, a: Member, b: Member, **body: Any) -> Scene:
        room_id = a.create("alice", preset="public_chat", power_level_content_override=POWER, **body)
        b.enter("bob", room_id, via=a)
        scene = cls(a, b, room_id)
        scene.say("the first")
        return scene

    def say(self, text: str) -> str:
        self.said.append(self.a.say("alice", self.room_id, text))
        return self.said[-1]

    def noise(self) -> None:
        event = self.a.make(self.room_id, "alice", NOISE, {})
        assert self.a.receive("a.example", self.room_id, event.raw) == ["accepted"]
        self.said.append(event.event_id)

    def topic(self, text: str) -> str:
        self.said.append(self.a.set_state("alice", self.room_id, "m.room.topic", {"topic": text}))
        return self.said[-1]

    def late(self, behind: str, *kinds: tuple[str, dict[str, Any]], **more: Any) -> list[str]:
        """Bob's events, one behind the other, the first behind one that may be long past."""
        depth = self.a.wait(self.a.house.database.run(load_by_ids, [behind]))[behind].event.depth
        raws, ids = [], [behind]
        for event_type, content in kinds:
            depth += 1
            key = None if event_type in ("m.room.message", NOISE) else ""
            sent = {"depth": depth, **more}
            event = self.b.make(self.room_id, "bob", event_type, content, state_key=key, prev=ids[-1:], **sent)
            raws.append(event.raw)
            ids.append(event.event_id)
        assert self.a.receive("b.example", self.room_id, *raws) == ["accepted"] * len(raws)
        self.said += ids[1:]
        return ids[1:]

    def look(self, name: str, limit: int, *, since: str | None = None, after: bool = False, **filter: Any) -> Any:
        wanted = {"room": {"rooms": [self.room_id], "timeline": {"limit": limit, **filter}}}
        answer = self.a.sync(name, since, filter=wanted, use_state_after=after)
        return answer["rooms"]["join"][self.room_id]

    def read(self, name: str, start: str | None, limit: int, filter: Any = None, direction: Any = "b") -> Any:
        """One page of /messages."""
        house = self.a.house
        ask = Messages(
            self.room_id, direction, start, limit=limit, filter=orjson.dumps(filter or {}).decode()
        )  # fmt: skip
        parts = house.part(History), house.part(Bundles), house.part(Clock)
        page = self.a.wait(get_messages(*parts, self.a.who(name), ask))
        return orjson.loads(orjson.dumps(page))

    def walk(self, name: str, start: str | None, limit: int, filter: Any = None, direction: Any = "b") -> list[str]:
        """All that is to be had by paging on."""
        found: list[str] = []
        for _ in range(200):
            page = self.read(name, start, limit, filter, direction)
            found += ids(page["chunk"])
            if "end" not in page:
                return found
            start = page["end"]
        raise AssertionError("there is no end of it")


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_id"] for event in events]


def contents(section: Any, part: str, event_type: str) -> list[Any]:
    return [event["content"] for event in section[part]["events"] if event["type"] == event_type]


def message(text: str) -> tuple[str, dict[str, Any]]:
    return "m.room.message", {"msgtype": "m.text", "body": text}


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_change_of_state_that_came_late_lies_before_the_timeline(any_fleet: Fleet, is_warm: bool) -> None:
    """As Complement's TestSyncOmitsStateChangeOnFilteredEvents has it."""
    a, b = any_fleet.open("a", "b")
    scene = Scene.open(a, b)
    fork, *_ = scene.said
    scene.say("E3")
    newest = scene.say("E4")
    since = a.sync("alice")["next_batch"]
    (late,) = scene.late(fork, ("m.room.name", {"name": "S2"}))
    # Who was there saw it come.
    assert ids(scene.look("alice", 1, since=since)["timeline"]["events"]) == [late]
    scene.noise()
    if not is_warm:
        a.house.rooms.drop(a.room(scene.room_id))
    section = scene.look("alice", 1, not_types=[NOISE])
    assert ids(section["timeline"]["events"]) == [newest] and section["timeline"]["limited"]
    assert contents(section, "state", "m.room.name") == [{"name": "S2"}]
    # Paging back, it comes first.
    page = scene.read("alice", section["timeline"]["prev_batch"], 2)
    assert ids(page["chunk"]) == [late, scene.said[1]]
    section = scene.look("alice", 1, not_types=[NOISE], after=True)
    assert ids(section["timeline"]["events"]) == [newest]
    assert contents(section, "state_after", "m.room.name") == [{"name": "S2"}]


def test_what_came_late_and_is_in_force_stays_the_last_word(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    scene = Scene.open(a, b)
    fork, *_ = scene.said
    scene.say("between")
    scene.topic("deeper")
    scene.say("hello")
    (late,) = scene.late(fork, ("m.room.topic", {"topic": "later"}))
    assert a.state_of(scene.room_id)["m.room.topic", ""] == late
    section = scene.look("alice", 3)
    assert ids(section["timeline"]["events"]) == scene.said[2:]
    section = scene.look("alice", 1)  # without the other in sight, it is before the timeline
    assert ids(section["timeline"]["events"]) == [scene.said[3]]
    assert contents(section, "state", "m.room.topic") == [{"topic": "later"}]


def test_who_just_came_is_shown_the_same(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    scene = Scene.open(a, b)
    since = a.sync("amy")["next_batch"]
    a.enter("amy", scene.room_id)
    fork = scene.say("one")
    for text in ("two", "three"):
        scene.say(text)
    late = scene.late(fork, message("late"), message("later"))
    section = scene.look("amy", 2, since=since)
    assert ids(section["timeline"]["events"]) == [scene.said[3], late[1]]
    assert scene.walk("amy", section["timeline"]["prev_batch"], 1)[:3] == [late[0], scene.said[2], fork]


def test_sliding_sync_shows_the_same(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    scene = Scene.open(a, b)
    fork, *_ = scene.said
    _, between, newest = scene.say("two"), scene.say("three"), scene.say("four")
    late = scene.late(fork, message("late"), message("later"))  # more than it reads for a timeline of one
    slider = Slider(a, "alice")
    told = slider.rooms(lists={"all": rooms(limit=1)})[scene.room_id]
    assert ids(told["timeline"]) == [newest]
    assert scene.walk("alice", told["prev_batch"], 1)[:3] == [*reversed(late), between]
    # From then on, things are shown as they come.
    last = scene.late(fork, message("the last"))
    assert ids(slider.rooms()[scene.room_id]["timeline"]) == last


# The law

kinds = st.sampled_from((message("late"), (NOISE, {}), ("m.room.topic", {"topic": "late"})))
acts = st.one_of(
    st.sampled_from(("say", "say", "noise", "topic", "come", "forget")),
    st.tuples(st.integers(1, 7), st.lists(kinds, min_size=1, max_size=5), st.sampled_from((None, None, 1, 2**53 - 1))),
)
"""What Alice does; that Amy comes; that the server forgets what it has in memory; or Bob's fork: how far back, what is
on it, and the depth that it claims."""
Look = tuple[str, int, int, bool]
looks = st.lists(
    st.tuples(st.sampled_from(("alice", "amy")), st.integers(1, 4), st.integers(1, 3), st.booleans()),
    min_size=1,
    max_size=2,
)
"""Who looks, with which limit, and whether they filter; how they page back."""


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(story=st.lists(acts, min_size=3, max_size=12), looks=looks, is_closed=st.booleans())
def test_a_first_look_and_what_is_before_it_are_the_whole(
    fleet: Fleet, story: list[Any], looks: list[Look], is_closed: bool
) -> None:
    if not fleet.members:
        fleet.open("a", "b")
    a, b = fleet.members.values()
    hidden = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    scene = Scene.open(a, b, initial_state=[hidden] if is_closed else [])
    for act in story:
        if isinstance(act, tuple):
            back, what, depth = act
            scene.late(scene.said[-back:][0], *what, **({} if depth is None else {"depth": depth}))
        elif act == "come":
            a.enter("amy", scene.room_id)
        elif act == "forget":
            a.house.rooms.drop(a.room(scene.room_id))
        else:
            {"say": lambda: scene.say("hello"), "noise": scene.noise, "topic": lambda: scene.topic("new")}[act]()
    a.enter("amy", scene.room_id)
    for name, limit, page, is_filtered in looks:
        _compare(scene, name, limit, page, {"not_types": [NOISE]} if is_filtered else {})


def _compare(scene: Scene, name: str, limit: int, page: int, filter: Any) -> None:
    whole = scene.walk(name, None, 100, filter)
    assert len(set(whole)) == len(whole)
    section = scene.look(name, limit, **filter)
    shown = ids(section["timeline"]["events"])
    place: str | None = section["timeline"]["prev_batch"]
    assert parse_room_token(str(place)).position < scene.a.house.hub.position
    assert len(shown) == min(limit, len(whole))
    while place is not None:
        # Before the place and behind it: together each event once.
        assert sorted([*shown, *scene.walk(name, place, 100, filter)]) == sorted(whole)
        assert sorted(scene.walk(name, place, 100, filter, "f")) == sorted(shown)
        read = scene.read(name, place, page, filter)
        shown += ids(read["chunk"])
        place = read.get("end")
    assert sorted(shown) == sorted(whole)

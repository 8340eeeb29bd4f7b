"""What is peculiar to version 1 of state resolution."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1

from federation.room.event import Event, StateKey
from federation.room.resolution import resolve
from federation.room.versions import ROOM_VERSIONS
from tests.federation.room.history import make_event

VERSION = ROOM_VERSIONS["1"]
ALICE, BOB = "@alice:a", "@bob:b"
POWER: StateKey = ("m.room.power_levels", "")
TOPIC: StateKey = ("m.room.topic", "")


def power(name: str, sender: str, depth: int, **levels: int) -> Event:
    users = {ALICE: 100, **{f"@{user}:b": level for user, level in levels.items()}}
    return make_event(VERSION, name, "m.room.power_levels", sender, {"users": users}, state_key="", depth=depth)


def topic(name: str, sender: str, depth: int) -> Event:
    return make_event(VERSION, name, "m.room.topic", sender, state_key="", depth=depth)


def member(name: str, user_id: str, membership: str = "join", by: str | None = None, depth: int = 2) -> Event:
    content = {"membership": membership}
    return make_event(VERSION, name, "m.room.member", by or user_id, content, state_key=user_id, depth=depth)


BEGINNING = [
    make_event(VERSION, "CREATE", "m.room.create", ALICE, {"creator": ALICE}, state_key=""),
    member("ALICE", ALICE),
]


def outcome(*forks: list[Event]) -> Mapping[StateKey, str]:
    told = [[*BEGINNING, *fork] for fork in forks]
    states = [{(event.type, event.state_key or ""): event.event_id for event in fork} for fork in told]
    return resolve(VERSION, states, {event.event_id: event for fork in told for event in fork})


def test_the_first_event_stands_unjudged_and_others_need_its_approval() -> None:
    shallow, deep = power("SHALLOW", "@nobody:n", 3, bob=50), power("DEEP", ALICE, 4, bob=60)
    assert outcome([shallow], [deep])[POWER] == "$DEEP"
    assert outcome([power("SHALLOW", ALICE, 3)], [power("DEEP", "@nobody:n", 4)])[POWER] == "$SHALLOW"


def test_a_chain_of_approval_ends_where_it_breaks() -> None:
    first, broken, last = power("FIRST", ALICE, 3), power("BROKEN", "@nobody:n", 4), power("LAST", ALICE, 5)
    assert outcome([first], [broken], [last])[POWER] == "$FIRST"
    assert outcome([first], [last])[POWER] == "$LAST"


def test_what_some_forks_lack_is_agreed_on_from_the_start() -> None:
    first = power("FIRST", ALICE, 3, bob=100)
    by_bob = power("BY_BOB", BOB, 4, bob=100, carol=1)
    assert outcome([first], [by_bob, member("BOB", BOB)])[POWER] == "$BY_BOB"


def test_members_come_after_the_power_that_they_depend_on() -> None:
    bob = member("BOB", BOB)
    ban = member("BAN", BOB, "ban", by=ALICE, depth=5)
    assert outcome([power("POWER", ALICE, 3), bob], [power("POWER", ALICE, 3), ban])[ban.type, BOB] == "$BAN"
    # In the deeper power levels Alice has lost hers, so that she may not ban anybody.
    levels = {"users": {ALICE: 0}}
    fallen = make_event(VERSION, "FALLEN", "m.room.power_levels", ALICE, levels, state_key="", depth=4)
    assert outcome([power("POWER", ALICE, 3), bob], [fallen, ban])[ban.type, BOB] == "$BOB"


def test_the_deepest_allowed_topic_stands() -> None:
    levels = power("POWER", ALICE, 3)
    assert outcome([levels, topic("A", ALICE, 7)], [levels, topic("B", ALICE, 9)])[TOPIC] == "$B"
    assert outcome([levels, topic("A", ALICE, 7)], [levels, topic("B", BOB, 9)])[TOPIC] == "$A"


def test_hashes_of_ids_decide_at_equal_depth() -> None:
    levels = power("POWER", ALICE, 3)
    names = ["A", "B", "C", "D"]
    least = min(("$" + name for name in names), key=lambda event_id: sha1(event_id.encode()).hexdigest())
    assert outcome(*([levels, topic(name, ALICE, 7)] for name in names))[TOPIC] == least


def test_without_any_that_is_allowed_the_first_topic_stands() -> None:
    assert outcome([topic("A", BOB, 7)], [topic("B", BOB, 9)])[TOPIC] == "$A"

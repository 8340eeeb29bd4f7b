"""What histories of honest rooms do not show of state resolution 2 and 2.1."""

from __future__ import annotations

import pytest

from federation.room.event import Event, StateKey
from federation.room.resolution import MissingEvent, resolve
from federation.room.resolution.v2 import is_power_event
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.federation.room.history import Author, make_event

VERSIONS = [ROOM_VERSIONS[name] for name in ("2", "6", "11", "12")]
TOPIC: StateKey = ("m.room.topic", "")


def key(event: Event) -> StateKey:
    return event.type, event.state_key or ""


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_rejected_events_are_no_grounds(version: RoomVersion) -> None:
    """Not even where a state has them: another server may have thought better of them, and sent us that state."""
    author = Author(version)
    author.begin("public", {"users": {"@bob:b": 50}}, ["@bob:b"])
    old = author.write("OLD", "m.room.topic", "@alice:a", {}, state_key="")
    before = dict(author.server.state_after["$OLD"])
    rejoin = author.write("REJOIN", "m.room.member", "@bob:b", {"membership": "join"}, state_key="@bob:b")
    new = author.write("NEW", "m.room.topic", "@bob:b", {}, state_key="")
    events = author.server.events
    without_bob = {k: v for k, v in before.items() if k != key(rejoin)}
    forks = [without_bob, {**without_bob, key(new): "$NEW"}]

    assert resolve(version, forks, events)[TOPIC] == "$NEW"
    assert resolve(version, forks, events, rejected={"$REJOIN"})[TOPIC] == old.event_id

    forks = [before, {**before, key(new): "$NEW", key(rejoin): "$REJOIN"}]
    assert resolve(version, forks, events)[TOPIC] == "$NEW"
    # The rejoin is heard and may stand. But the topic cites it, too, and has no other ground.
    outcome = resolve(version, forks, events, rejected={"$REJOIN", "$BOB"})
    assert outcome[TOPIC] == old.event_id
    assert outcome[key(rejoin)] == "$REJOIN"


def test_where_resolved_state_is_rejected_what_is_cited_counts() -> None:
    version = ROOM_VERSIONS["11"]
    author = Author(version)
    author.begin("public", {}, ["@bob:b"])
    cited = author.server.state_after["$BOB"]
    author.write("OUT", "m.room.member", "@bob:b", {"membership": "leave"}, state_key="@bob:b")
    author.write("NOTE", "org.note", "@bob:b", {}, state_key="@bob:b", after=["BOB"])
    author.write("POWER_2", "m.room.power_levels", "@alice:a", {"state_default": 0}, state_key="")
    events = author.server.events
    note = make_event(
        version, "LATE", "org.note", "@bob:b", {}, state_key="@bob:b", auth=["CREATE", "POWER_2", "BOB"], at_ms=10**9
    )
    events[note.event_id] = note
    agreed = {**cited, ("m.room.power_levels", ""): "$POWER_2"}
    out = {**agreed, ("m.room.member", "@bob:b"): "$OUT"}
    forks = [out, {**agreed, key(note): "$LATE"}]
    assert key(note) not in resolve(version, forks, events)
    assert resolve(version, forks, events, rejected={"$OUT"})[key(note)] == "$LATE"


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_what_is_missing_is_named_together(version: RoomVersion) -> None:
    author = Author(version)
    author.begin("public", {"users": {"@bob:b": 50}}, ["@bob:b"])
    for name in ("ONE", "TWO"):
        author.write(name, "m.room.topic", "@bob:b", {}, state_key="", after=["BOB"])
    forks = [author.server.state_after["$ONE"], author.server.state_after["$TWO"]]
    with pytest.raises(MissingEvent, match="2 events are missing, among them \\$ONE") as caught:
        resolve(version, forks, {}, auth_difference=set(), conflicted_subgraph=set())
    assert caught.value.event_ids == ("$ONE", "$TWO")
    at_hand = {event_id: author.server.events[event_id] for event_id in caught.value.event_ids}
    with pytest.raises(MissingEvent) as caught:
        resolve(version, forks, at_hand, auth_difference=set(), conflicted_subgraph=set())
    assert caught.value.event_ids == ("$BOB", "$CREATE", "$POWER")
    at_hand |= {event_id: author.server.events[event_id] for event_id in caught.value.event_ids}
    assert resolve(version, forks, at_hand, auth_difference=set(), conflicted_subgraph=set())[TOPIC] == "$TWO"


def test_citations_in_a_circle_end() -> None:
    """Nothing in versions 1 and 2 keeps a server from making such ids up; they never reach us accepted."""
    version = ROOM_VERSIONS["2"]
    circle = [
        make_event(version, name, "m.room.power_levels", "@alice:a", {}, state_key="", auth=[other])
        for name, other in (("A", "B"), ("B", "A"))
    ]
    forks = [{key(event): event.event_id} for event in circle]
    topics = [make_event(version, name, "m.room.topic", "@a:a", {}, state_key="", auth=["A"]) for name in ("X", "Y")]
    forks = [{**fork, TOPIC: event.event_id} for fork, event in zip(forks, topics, strict=True)]
    assert resolve(version, forks, {event.event_id: event for event in circle + topics}) == {}


POWER_EVENTS = {
    "power levels": ("m.room.power_levels", "", {}, True),
    "power levels of nothing": ("m.room.power_levels", "x", {}, False),
    "a message with that type": ("m.room.power_levels", None, {}, False),
    "join rules": ("m.room.join_rules", "", {}, True),
    "join rules of nothing": ("m.room.join_rules", "x", {}, False),
    "a kick": ("m.room.member", "@b:b", {"membership": "leave"}, True),
    "a ban": ("m.room.member", "@b:b", {"membership": "ban"}, True),
    "a leave": ("m.room.member", "@a:a", {"membership": "leave"}, False),
    "an invite": ("m.room.member", "@b:b", {"membership": "invite"}, False),
    "a join": ("m.room.member", "@a:a", {"membership": "join"}, False),
    "a member event that is no state": ("m.room.member", None, {"membership": "ban"}, False),
    "a topic": ("m.room.topic", "", {}, False),
}


@pytest.mark.parametrize(("type", "state_key", "content", "expected"), POWER_EVENTS.values(), ids=POWER_EVENTS)
def test_power_events(type: str, state_key: str | None, content: dict[str, str], expected: bool) -> None:
    event = make_event(ROOM_VERSIONS["12"], "EVENT", type, "@a:a", content, state_key=state_key)
    assert is_power_event(event) is expected


def test_no_forks_have_no_state() -> None:
    assert resolve(ROOM_VERSIONS["12"], [], {}) == {}

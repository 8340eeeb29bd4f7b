"""The law of bundles: what goes with an event is what its reader would count together of all that it can see.

Whatever was said, edited, taken back, whoever came, went or is ignored, and whatever memory holds of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from homeserver.errors import MatrixError
from tests.fixtures_house import LivedInHouse, open_house
from tests.relations.talk import ids, ignore, messages, react, relate, relations

PEOPLE = ("alice", "bob", "carol")
KINDS = ("m.replace", "m.thread", "m.reference", "m.annotation")

NEW: dict[str, Any] = {"m.new_content": {"msgtype": "m.text", "body": "x"}}

number = st.integers(0, 7)
step = st.one_of(
    st.tuples(st.just("say"), st.sampled_from(PEOPLE), number, st.just("")),
    st.tuples(st.just("relate"), st.sampled_from(PEOPLE), number, st.sampled_from(KINDS)),
    st.tuples(st.just("relate"), st.sampled_from(PEOPLE), number, st.sampled_from(KINDS)),
    st.tuples(st.just("redact"), st.just("alice"), number, st.just("")),
    st.tuples(st.just("come or go"), st.sampled_from(("bob", "carol")), number, st.just("")),
    st.tuples(st.just("ignore"), st.sampled_from(PEOPLE), number, st.just("")),
    st.tuples(st.just("look"), st.sampled_from(PEOPLE), number, st.just("")),
    st.tuples(st.just("forget what is in memory"), st.just("alice"), number, st.just("")),
    st.tuples(st.just("close"), st.just("alice"), number, st.sampled_from(("shared", "joined"))),
)


def counted(visible: list[dict[str, Any]], parent: dict[str, Any], reader: str) -> dict[str, Any]:
    """What hangs on an event, by the visible events themselves (oldest first)."""
    if "state_key" in parent:
        return {}
    children: dict[str, list[dict[str, Any]]] = {}
    for event in visible:
        relation = event["content"].get("m.relates_to", {})
        if relation.get("event_id") == parent["event_id"]:
            children.setdefault(relation["rel_type"], []).append(event)
    found: dict[str, Any] = {}
    own = parent["content"].get("m.relates_to", {}).get("rel_type")
    if references := children.get("m.reference"):
        found["m.reference"] = [event["event_id"] for event in references]
    edits = [event for event in children.get("m.replace", ()) if event["sender"] == parent["sender"]]
    if edits and own != "m.replace" and "redacted_because" not in parent["unsigned"]:
        found["m.replace"] = max(edits, key=lambda event: (event["origin_server_ts"], event["event_id"]))["event_id"]
    if (thread := children.get("m.thread")) and own is None:
        found["m.thread"] = (len(thread), thread[-1]["event_id"])
    return found


def told(event: dict[str, Any]) -> dict[str, Any]:
    """The same as the server says."""
    found: dict[str, Any] = {}
    for kind, value in event["unsigned"].get("m.relations", {}).items():
        match kind:
            case "m.reference":
                found[kind] = [one["event_id"] for one in value["chunk"]]
            case "m.replace":
                found[kind] = value["event_id"]
            case "m.thread":
                found[kind] = (value["count"], value["latest_event"]["event_id"])
    return found


def check(house: LivedInHouse, name: str, room_id: str) -> None:
    visible = messages(house, name, room_id)["chunk"][::-1]
    for event in visible:
        assert told(event) == counted(visible, event, house.user(name))
        listed = ids(relations(house, name, room_id, event["event_id"]))[::-1]
        assert listed == [
            one["event_id"]
            for one in visible
            if one["content"].get("m.relates_to", {}).get("event_id") == event["event_id"]
        ]


def play(house: LivedInHouse, steps: list[tuple[str, str, int, str]]) -> None:
    room_id = house.create("alice", preset="public_chat")
    for name in PEOPLE[1:]:
        house.join(name, room_id)
    said = [house.say("alice", room_id, "hello")]
    for kind, name, which, rel_type in steps:
        target = said[which % len(said)]
        try:
            match kind:
                case "say":
                    said.append(house.say(name, room_id, f"{len(said)}"))
                case "relate" if rel_type == "m.annotation":
                    said.append(react(house, name, room_id, target))
                case "relate":
                    said.append(relate(house, name, room_id, target, rel_type, **NEW))
                case "redact":
                    house.redact(name, room_id, target)
                case "come or go":
                    room = house.wait(house.house.rooms.require(room_id))
                    (house.leave if room.membership_of(house.user(name)) == "join" else house.join)(name, room_id)
                case "ignore":
                    ignore(house, name, *[other for index, other in enumerate(PEOPLE) if which & 1 << index])
                case "look":
                    check(house, name, room_id)
                case "close":
                    house.set_state(name, room_id, "m.room.history_visibility", {"history_visibility": rel_type})
                case _:
                    house.house.rooms.drop(house.wait(house.house.rooms.require(room_id)))
        except MatrixError as error:
            assert error.status in (400, 403)
    for name in PEOPLE:
        check(house, name, room_id)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, max_size=30))
def test_bundles_are_what_one_could_count(tmp_path_factory: Any, steps: list[tuple[str, str, int, str]]) -> None:
    directory: Path = tmp_path_factory.mktemp("house")
    house = open_house(directory, f"sqlite:///{directory / 'house.db'}")
    try:
        play(house, steps)
    finally:
        house.wait(house.house.close())

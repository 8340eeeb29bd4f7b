"""Sliding sync in the accepted form: everything in the body, by other names."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from homeserver.client.sliding.shapes import STICKY
from tests.fixtures_server import Person, ServerProcess

PATH = "/_matrix/client/v4/sync"


def state(*types: str, **more: Any) -> dict[str, Any]:
    return {"include": [{"type": kind, "state_key": ""} for kind in types], **more}


def rooms(limit: int = 10, required_state: Any = None, **more: Any) -> dict[str, Any]:
    return {"timeline_limit": limit, "required_state": required_state or state("m.room.name"), **more}


def slide(person: Person, pos: str | None = None, **body: Any) -> Any:
    return person.call("POST", PATH, {**body, **({} if pos is None else {"pos": pos})})


def test_a_room_from_its_invitation_to_its_end(server: ServerProcess) -> None:
    alice, bob = server.register("alice"), server.register("bob")
    room_id = bob.create_room(preset="public_chat", name="The pub", invite=[alice.user_id])
    lists = {"new": rooms(filters={"is_invited": True}), "all": rooms(1, range=[0, 19])}
    invited = slide(alice, lists=lists)
    room = invited["rooms"][room_id]
    assert room["membership"] == "invite" and sorted(room["lists"]) == ["all", "new"]
    assert "name" not in room and "m.room.name" in {event["type"] for event in room["stripped_state"]}
    assert invited["lists"] == {"new": {"count": 1}, "all": {"count": 1}}
    alice.join(room_id)
    bob.say(room_id, "hello")
    joined = slide(alice, invited["pos"], lists=lists)
    room = joined["rooms"][room_id]
    assert room["membership"] == "join" and room["initial"] and room["lists"] == ["all"]
    assert [event["content"]["body"] for event in room["timeline_events"]] == ["hello"]
    assert room["name"] == "The pub" and [event["type"] for event in room["required_state"]] == ["m.room.name"]
    everything = {"include": [{}], "exclude": [{"type": "m.room.create"}], "lazy_members": True}
    opened = slide(alice, joined["pos"], lists=lists, room_subscriptions={room_id: rooms(5, everything)})
    room = opened["rooms"][room_id]
    assert room["expanded_timeline"] and len(room["timeline_events"]) == 5
    types = [event["type"] for event in room["required_state"]]
    assert "m.room.power_levels" in types and "m.room.create" not in types and "m.room.name" not in types
    assert "lists" in room
    bob.set_state(room_id, "m.room.name", {})
    renamed = slide(alice, opened["pos"], lists=lists)
    assert renamed["rooms"][room_id]["name"] is None
    bob.kick(room_id, alice)
    kicked = slide(alice, renamed["pos"], lists=lists)
    assert kicked["rooms"][room_id]["membership"] == "leave" and kicked["lists"]["all"]["count"] == 1
    assert slide(alice, kicked["pos"], lists=lists)["rooms"] == {}


def test_lists_without_a_range_hold_all(shared_server: ServerProcess) -> None:
    person = shared_server.register(f"slider{secrets.token_hex(4)}")
    ids = {person.create_room() for _ in range(3)}
    assert set(slide(person, lists={"all": rooms()})["rooms"]) == ids


def test_what_sticks_is_told_here_too(shared_server: ServerProcess) -> None:
    person = shared_server.register(f"slider{secrets.token_hex(4)}")
    room_id = person.create_room()
    path = f"/_matrix/client/v3/rooms/{room_id}/send/org.example.rtc/1"
    person.call("PUT", path, {"body": "ring"}, {"org.matrix.msc4354.sticky_duration_ms": 60_000})
    person.say(room_id, "hello")
    told = slide(person, lists={"all": rooms(1)}, extensions={STICKY: {"enabled": True}})["extensions"][STICKY]
    assert [event["content"]["body"] for event in told["rooms"][room_id]["events"]] == ["ring"]
    assert told["next_batch"].isdigit()


def test_a_pos_of_the_one_way_is_no_secret_to_the_other(shared_server: ServerProcess) -> None:
    person = shared_server.register(f"slider{secrets.token_hex(4)}")
    room_id = person.create_room()
    pos = slide(person, lists={"all": rooms()})["pos"]
    assert slide(person, pos, lists={"all": rooms()})["rooms"] == {}
    assert person.call("GET", f"/_matrix/client/v3/rooms/{room_id}/messages", query={"dir": "b", "from": pos})["chunk"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"pos": "s1_1_1"}, "pos"),
    ({"lists": {"a": rooms(range=[5, 1])}}, "lists.a.range"),
    ({"lists": {"a": rooms(range=[[0, 1]])}}, "range"),
    ({"lists": {"a": {"timeline_limit": 1}}}, "required_state"),
    ({"lists": {"a": {"required_state": {}}}}, "timeline_limit"),
    ({"lists": {"a": rooms(1, [["m.room.name", ""]])}}, "required_state"),
    ({"lists": {str(number): rooms() for number in range(101)}}, "lists"),
    ({"set_presence": "sleepy"}, "set_presence"),
    ({"extensions": {STICKY: {"enabled": True, "since": "s1"}}}, f"{STICKY}.since"),
    ({"extensions": {STICKY: {"enabled": True, "limit": 0}}}, "limit"),
]


@pytest.mark.parametrize("body, named", WRONG, ids=[named for _, named in WRONG])
def test_what_is_wrong_is_named(shared_server: ServerProcess, body: dict[str, Any], named: str) -> None:
    person = shared_server.register(f"slider{secrets.token_hex(4)}")
    answer = person.request("POST", PATH, body)
    assert answer.status == 400 and named in answer.json["error"]

"""Sliding sync over HTTP, from a server process: as Element X and matrix-js-sdk ask for it."""

from __future__ import annotations

import secrets
import signal
import threading
from typing import Any

import pytest

from tests.fixtures_server import Person, ServerProcess
from tests.sync.sliding.slider import bodies, rooms, subscription

PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

#: What the room list of matrix-rust-sdk (Element X) asks for at first.
ROOM_LIST = {
    "conn_id": "room-list",
    "lists": {
        "all_rooms": {
            "ranges": [[0, 19]],
            "timeline_limit": 1,
            "required_state": [
                ["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"],
                ["m.room.topic", ""], ["m.room.avatar", ""], ["m.room.canonical_alias", ""],
                ["m.room.power_levels", ""], ["m.room.create", ""], ["m.space.child", "*"],
            ],
            "filters": {"not_room_types": ["m.space"]},
        }
    },
    "extensions": {
        "account_data": {"enabled": True},
        "receipts": {"enabled": True, "rooms": ["*"]},
        "typing": {"enabled": True},
    },
}  # fmt: skip
#: And the loop beside it that keeps encryption going.
ENCRYPTION = {"conn_id": "encryption", "extensions": {"to_device": {"enabled": True}, "e2ee": {"enabled": True}}}


def slide(person: Person, body: dict[str, Any], pos: str | None = None, timeout: int = 0) -> Any:
    query: dict[str, str | int] = {"timeout": timeout}
    if pos is not None:
        query["pos"] = pos
    return person.call("POST", PATH, body, query)


def test_two_loops_of_a_client(server: ServerProcess) -> None:
    alice, bob = server.register("alice"), server.register("bob")
    flags = server.call("GET", "/_matrix/client/versions")["unstable_features"]
    assert flags["org.matrix.simplified_msc3575"] is True
    room_id = bob.create_room(preset="public_chat", name="The pub", invite=[alice.user_id])
    listed = slide(alice, ROOM_LIST)
    assert listed["lists"]["all_rooms"]["count"] == 1 and "invite_state" in listed["rooms"][room_id]
    keys = slide(alice, ENCRYPTION)
    assert keys["extensions"]["e2ee"]["device_one_time_keys_count"] == {"signed_curve25519": 0}
    alice.join(room_id)
    bob.say(room_id, "hello")
    joined = slide(alice, ROOM_LIST, listed["pos"])
    room = joined["rooms"][room_id]
    assert room["initial"] and room["name"] == "The pub" and bodies(room) == ["hello"] and room["joined_count"] == 2
    opened = {**ROOM_LIST, "room_subscriptions": {room_id: subscription(limit=20)}}
    room = slide(alice, opened, joined["pos"])["rooms"][room_id]
    assert room["unstable_expanded_timeline"] and len(room["timeline"]) > 1
    messages = {bob.user_id: {"*": {}}, alice.user_id: {alice.device_id: {"body": "psst"}}}
    bob.call("PUT", "/_matrix/client/v3/sendToDevice/m.x/1", {"messages": messages})
    told = slide(alice, ENCRYPTION, keys["pos"], 10_000)["extensions"]
    assert [event["content"]["body"] for event in told["to_device"]["events"]] == ["psst"]
    assert bob.user_id in told["e2ee"]["device_lists"]["changed"]


def test_a_request_that_waits_is_answered_by_what_happens(server: ServerProcess) -> None:
    alice, bob = server.register("alice"), server.register("bob")
    room_id = bob.create_room(preset="public_chat")
    alice.join(room_id)
    pos = slide(alice, ROOM_LIST)["pos"]
    speaker = threading.Timer(0.3, bob.say, (room_id, "wake up"))
    speaker.start()
    answer = slide(alice, ROOM_LIST, pos, 20_000)
    speaker.join()
    assert bodies(answer["rooms"][room_id]) == ["wake up"]


def test_after_a_restart_a_client_begins_anew(server: ServerProcess) -> None:
    alice = server.register("alice")
    room_id = alice.create_room(name="The pub")
    pos = slide(alice, ROOM_LIST)["pos"]
    server.kill(signal.SIGKILL)
    server.start()
    answer = alice.request("POST", PATH, ROOM_LIST, {"pos": pos})
    assert (answer.status, answer.json["errcode"]) == (400, "M_UNKNOWN_POS")
    assert slide(alice, ROOM_LIST)["rooms"][room_id]["initial"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"lists": {"a": rooms(5, 1)}}, "lists.a.ranges"),
    ({"lists": {"a": {**rooms(), "ranges": [[0]]}}}, "ranges"),
    ({"lists": {"a": rooms(-1, 5)}}, "ranges"),
    ({"lists": {"a": rooms(limit=-1)}}, "timeline_limit"),
    ({"lists": {"a": {**rooms(), "required_state": [["m.room.name"]]}}}, "required_state"),
    ({"lists": {"a": rooms(is_dm="yes")}}, "is_dm"),
    ({"lists": {str(number): rooms() for number in range(101)}}, "lists"),
    ({"room_subscriptions": {f"!{number}:x": subscription() for number in range(101)}}, "room_subscriptions"),
    ({"conn_id": "x" * 256}, "conn_id"),
    ({"extensions": {"to_device": {"enabled": True, "since": "yesterday"}}}, "since"),
    ({"extensions": {"receipts": {"enabled": True, "rooms": "all"}}}, "rooms"),
]


@pytest.mark.parametrize("body, named", WRONG, ids=[named for _, named in WRONG])
def test_what_is_wrong_is_named(shared_server: ServerProcess, body: dict[str, Any], named: str) -> None:
    person = shared_server.register(f"slider{secrets.token_hex(4)}")
    answer = person.request("POST", PATH, body)
    assert answer.status == 400 and named in answer.json["error"]
    assert answer.json["errcode"] in ("M_BAD_JSON", "M_INVALID_PARAM")


def test_odd_rules_and_ranges_are_no_trouble(shared_server: ServerProcess) -> None:
    person = shared_server.register(f"slider{secrets.token_hex(4)}")
    room_id = person.create_room(name="The pub")
    odd = [["*", "*"], ["m.room.member", "$LAZY"], ["*", "$ME"], ["", ""], ["m.room.name", "\0"], ["\0", "*"]]
    lists = {
        "a": {**rooms(state=odd), "ranges": [[0, 0], [0, 2**53 - 1], [7, 9]]},
        "": {"required_state": [], "timeline_limit": 0, "ranges": []},
        "b": {"timeline_limit": 2**53 - 1, "filters": {"spaces": ["x", "\0"], "tags": [], "room_types": ["\0", None]}},
    }
    answer = slide(person, {"lists": lists, "room_subscriptions": {"\0": subscription()}})
    assert set(answer["rooms"]) == {room_id} and answer["lists"]["a"]["count"] == 1
    assert person.call("GET", f"/_matrix/client/v3/rooms/{room_id}/messages", query={"dir": "b", "from": answer["pos"]})

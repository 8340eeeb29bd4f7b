"""What goes with the rooms: each extension tells what is new, once, of the rooms that are looked at."""

from __future__ import annotations

from typing import Any

from homeserver.encryption.letters import Letterbox
from homeserver.ephemeral.typing import TypingBoard
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.read_markers import Mark, ReadMarkers
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user
from tests.sync.sliding.slider import Slider, rooms, subscription


def with_extension(name: str, **about: Any) -> dict[str, Any]:
    return {"lists": {"all": rooms()}, "extensions": {name: {"enabled": True, **about}}}


def put_data(house: LivedInHouse, kind: str, content: dict[str, Any], room_id: str | None = None) -> None:
    room = None if room_id is None else house.wait(house.house.rooms.require(room_id))
    data = house.house.part(AccountData)
    house.wait(data.put(user("alice"), GLOBAL if room is None else room.nid, kind, content))


def type_in(house: LivedInHouse, name: str, room_id: str, typing: bool = True) -> None:
    room = house.wait(house.house.rooms.require(room_id))
    house.house.part(TypingBoard).set(room, user(name), typing, 20_000)


def read(house: LivedInHouse, name: str, room_id: str, event_id: str) -> None:
    room = house.wait(house.house.rooms.require(room_id))
    house.wait(house.house.part(ReadMarkers).move(room.nid, user(name), [Mark("m.read", event_id)]))


def test_what_is_not_asked_for_is_not_told(house: LivedInHouse) -> None:
    house.create("alice")
    assert Slider(house, "alice").ask()["extensions"] == {}
    off = {name: {"enabled": False} for name in ("to_device", "e2ee", "account_data", "receipts", "typing")}
    assert Slider(house, "alice").ask(extensions=off)["extensions"] == {}


def test_messages_for_the_device_stay_until_their_token_comes_back(house: LivedInHouse) -> None:
    house.wait(house.house.database.write(_add_device, user("alice")))
    client = Slider(house, "alice", with_extension("to_device"))
    assert client.extension("to_device")["events"] == []
    send = house.house.part(Letterbox).send(house.who("bob"), "m.x", "t", {user("alice"): {"DEVICE": {"n": 1}}})
    house.wait(send)
    first = client.extension("to_device")
    assert [event["content"] for event in first["events"]] == [{"n": 1}]
    assert client.extension("to_device")["events"] == first["events"]  # nobody said that they had arrived
    since = {"to_device": {"enabled": True, "since": first["next_batch"]}}
    assert client.extension("to_device", extensions=since)["events"] == []


def _add_device(cursor: Any, user_id: str) -> None:
    from storage.accounts import Account, add_account
    from storage.sessions import TokenPair, open_session

    add_account(cursor, Account(user_id, "hash", 0))
    open_session(cursor, user_id, "DEVICE", None, TokenPair(b"a" * 32, None, None, None), 0)


def test_keys_are_counted_and_devices_of_newcomers_named(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    client = Slider(house, "alice", with_extension("e2ee"))
    first = client.extension("e2ee")
    assert first["device_one_time_keys_count"] == {"signed_curve25519": 0} and "device_lists" not in first
    house.join("bob", room_id)
    assert client.extension("e2ee")["device_lists"] == {"changed": [user("bob")], "left": []}
    assert "device_lists" not in client.extension("e2ee")


def test_account_data_of_everywhere_and_of_the_rooms_in_sight(house: LivedInHouse) -> None:
    near = house.create("alice")
    far = house.create("alice")
    house.say("alice", near, "to the front")
    put_data(house, "m.x", {"n": 1})
    put_data(house, "m.y", {"n": 2}, near)
    put_data(house, "m.y", {"n": 3}, far)
    client = Slider(house, "alice", {**with_extension("account_data"), "lists": {"all": rooms(0, 0)}})
    told = client.extension("account_data")
    assert told["global"] == [{"type": "m.x", "content": {"n": 1}}]
    assert told["rooms"] == {near: [{"type": "m.y", "content": {"n": 2}}]}
    assert client.extension("account_data") == {"global": [], "rooms": {}}
    put_data(house, "m.x", {"n": 4})
    put_data(house, "m.y", {"n": 5}, near)
    put_data(house, "m.y", {"n": 6}, far)
    told = client.extension("account_data")
    assert [event["content"] for event in told["global"]] == [{"n": 4}]
    assert told["rooms"] == {near: [{"type": "m.y", "content": {"n": 5}}]}
    told = client.extension("account_data", lists={"all": rooms(0, 1)})
    assert told["rooms"] == {far: [{"type": "m.y", "content": {"n": 6}}]}
    # Of a room that was out of sight when it changed, too.
    client.ask(lists={"all": rooms(0, 0)})
    put_data(house, "m.y", {"n": 7}, far)
    assert client.extension("account_data")["rooms"] == {}
    told = client.extension("account_data", lists={"all": rooms(0, 1)})
    assert told["rooms"] == {far: [{"type": "m.y", "content": {"n": 7}}]}


def test_receipts_of_the_rooms_in_sight(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    event_id = house.say("alice", room_id, "hello")
    read(house, "bob", room_id, event_id)
    client = Slider(house, "alice", with_extension("receipts"))
    told = client.extension("receipts")
    assert list(told["rooms"][room_id]["content"]) == [event_id] and told["rooms"][room_id]["type"] == "m.receipt"
    assert client.extension("receipts") == {"rooms": {}}
    later = house.say("alice", room_id, "and again")
    read(house, "bob", room_id, later)
    answer = client.ask()
    assert list(answer["extensions"]["receipts"]["rooms"][room_id]["content"]) == [later]
    read(house, "alice", room_id, later)
    answer = client.ask()
    assert answer["rooms"] == {} and list(answer["extensions"]["receipts"]["rooms"]) == [room_id]
    assert client.extension("receipts", extensions={"receipts": {"enabled": True, "lists": [], "rooms": []}}) == {
        "rooms": {}
    }


def test_typing_wakes_those_who_look(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    client = Slider(house, "alice", with_extension("typing"))
    assert client.extension("typing") == {"rooms": {}}
    waiting = client.start(timeout_ms=30_000)
    type_in(house, "bob", room_id)
    house.advance(0)
    told = client.take(house.wait(waiting))["extensions"]["typing"]["rooms"]
    assert told[room_id]["content"] == {"user_ids": [user("bob")]}
    assert client.extension("typing") == {"rooms": {}}
    type_in(house, "bob", room_id, False)
    assert client.extension("typing")["rooms"][room_id]["content"] == {"user_ids": []}
    # Somebody who looks for the first time sees who types, in subscribed rooms too.
    type_in(house, "bob", room_id)
    other = Slider(house, "alice", {**with_extension("typing"), "lists": {}}, device_id="OTHER")
    assert other.extension("typing") == {"rooms": {}}
    told = other.extension("typing", room_subscriptions={room_id: subscription()})
    assert told["rooms"][room_id]["content"] == {"user_ids": [user("bob")]}


def test_an_extension_that_is_added_later_begins_with_all(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    put_data(house, "m.y", {"n": 1}, room_id)
    read(house, "alice", room_id, house.say("alice", room_id, "hello"))
    client = Slider(house, "alice")
    client.ask()
    asked = {"account_data": {"enabled": True}, "receipts": {"enabled": True}}
    told = client.ask(extensions=asked)["extensions"]
    assert told["account_data"]["rooms"] == {room_id: [{"type": "m.y", "content": {"n": 1}}]}
    assert list(told["receipts"]["rooms"]) == [room_id]

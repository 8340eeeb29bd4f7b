"""What goes with the rooms: each extension tells what is new, once, of the rooms that are looked at."""

from __future__ import annotations

from typing import Any

from homeserver.client.sliding.shapes import STICKY
from homeserver.encryption.letters import Letterbox
from homeserver.ephemeral.typing import TypingBoard
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.read_markers import Mark, ReadMarkers
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user
from tests.relations.talk import ignore
from tests.rooms.test_sticky import later, stick
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
    off = {name: {"enabled": False} for name in ("to_device", "e2ee", "account_data", "receipts", "typing", STICKY)}
    assert Slider(house, "alice").ask(extensions=off)["extensions"] == {}


def test_messages_for_the_device_stay_until_their_token_comes_back(house: LivedInHouse) -> None:
    house.wait(house.house.database.write(add_device, user("alice")))
    client = Slider(house, "alice", with_extension("to_device"))
    assert client.extension("to_device")["events"] == []
    send = house.house.part(Letterbox).send(house.who("bob"), "m.x", "t", {user("alice"): {"DEVICE": {"n": 1}}})
    house.wait(send)
    first = client.extension("to_device")
    assert [event["content"] for event in first["events"]] == [{"n": 1}]
    assert client.extension("to_device")["events"] == first["events"]  # nobody said that they had arrived
    since = {"to_device": {"enabled": True, "since": first["next_batch"]}}
    assert client.extension("to_device", extensions=since)["events"] == []


def add_device(cursor: Any, user_id: str) -> None:
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


def stuck(client: Slider, since: str | None = None, **about: Any) -> tuple[dict[str, list[str]], str]:
    """What the extension tells by room, and where to go on."""
    token = {} if since is None else {"since": since}
    told = client.extension(STICKY, extensions={STICKY: {"enabled": True, **token, **about}})
    found = {room_id: [one["content"]["body"] for one in room["events"]] for room_id, room in told["rooms"].items()}
    return found, told["next_batch"]


def test_what_sticks_comes_once_also_of_rooms_out_of_sight(house: LivedInHouse) -> None:
    near, far = house.create("alice", preset="public_chat"), house.create("alice", preset="public_chat")
    for room_id in (near, far):
        house.join("bob", room_id)
    stick(house, "alice", far, "far")
    stick(house, "alice", near, "near")
    house.say("alice", near, "to the front")
    client = Slider(house, "bob", {"lists": {"all": rooms(0, 0, limit=1)}})
    found, since = stuck(client)
    assert found == {far: ["far"], near: ["near"]}
    assert stuck(client, since) == ({}, since)
    stick(house, "alice", near, "seen")
    stick(house, "alice", far, "unseen")
    house.say("alice", near, "to the front again")
    assert stuck(client, since, limit=1)[0] == {near: ["seen"]}  # its timeline begins after that
    client = Slider(house, "bob", {"lists": {"all": rooms(0, 1, limit=10)}})
    found, since = stuck(client, since)
    assert found == {}  # all of it is in the timelines
    # Of a room that the client is shown for the first time, it is told of what it may have had to drop.
    client = Slider(house, "bob", {"lists": {"all": rooms(0, 0, limit=1)}})
    assert stuck(client, since)[0] == {near: ["near", "seen"]}
    client.body["lists"] = {"all": rooms(0, 1, limit=1)}
    assert stuck(client, since)[0] == {far: ["far"]}


def test_what_sticks_in_pages(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    for number in range(5):
        stick(house, "alice", room_id, f"{number}")
    house.say("alice", room_id, "hello")
    client = Slider(house, "bob", {"lists": {"none": rooms(0, 0, is_dm=True)}})
    assert stuck(client)[0] == {}  # no list has it
    client.body["lists"] = {"all": rooms(1, 5)}
    since, pages = None, []
    for _ in range(4):
        found, since = stuck(client, since, limit=2)
        pages += [found.get(room_id, [])]
    assert pages == [["0", "1"], ["2", "3"], ["4"], []]
    later(house, 61_000)
    assert stuck(Slider(house, "bob"))[0] == {}


def test_what_sticks_for_who_comes_who_goes_and_who_ignores(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    for number in range(3):
        stick(house, "alice", room_id, f"{number}")
    house.say("alice", room_id, "hello")
    client = Slider(house, "bob", {"lists": {"all": rooms(1, 5)}})
    found, since = stuck(client)
    assert found == {}
    house.join("bob", room_id)
    assert stuck(client, since, limit=1)[0] == {room_id: ["0", "1", "2"]}
    house.leave("bob", room_id)
    stick(house, "alice", room_id, "3")
    assert stuck(client, since)[0] == {}
    house.join("bob", room_id)
    ignore(house, "bob", "alice")
    assert stuck(client, since)[0] == {}


def test_what_sticks_wakes_whoever_waits(house: LivedInHouse) -> None:
    rooms_of = [house.create("alice", preset="public_chat") for _ in range(2)]
    for room_id in rooms_of:
        house.join("bob", room_id)
    client = Slider(house, "bob", {"lists": {"all": rooms(5, 9)}})
    _, since = stuck(client)
    client.body["extensions"] = {STICKY: {"enabled": True, "since": since}}
    waiting = client.start(timeout_ms=30_000)
    stick(house, "alice", rooms_of[0], "ring")
    house.advance(0)
    told = client.take(house.wait(waiting))["extensions"][STICKY]["rooms"]
    (event,) = told[rooms_of[0]]["events"]
    assert (
        event["msc4354_sticky"] == {"duration_ms": 60_000} and event["unsigned"]["msc4354_sticky_duration_ttl_ms"] > 0
    )

"""A room seen from outside, and what clients asked for before there was `/sync`."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from homeserver.client.peeking import GetAll, GetEvents, GetRoom, get_all, get_events, get_room
from homeserver.clock import Clock
from homeserver.encryption.letters import Letterbox
from homeserver.errors import Forbidden, InvalidParam, MatrixError
from homeserver.relations.bundles import Bundles
from homeserver.sync.older import OlderSync
from homeserver.sync.peeks import Peeks
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user
from tests.relations.talk import ids, ignore, parsed
from tests.sync.sliding.test_extensions import add_device

OPEN = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}


def snapshot(house: LivedInHouse, name: str, room_id: str, limit: int = 20) -> Any:
    part = house.house.part
    return parsed(house, get_room(part(Peeks), part(Bundles), part(Clock), house.who(name), GetRoom(room_id, limit)))


def start(house: LivedInHouse, name: str, **ask: Any) -> Deferred[Any]:
    part = house.house.part
    events = get_events(part(Peeks), part(OlderSync), part(Bundles), part(Clock), house.who(name), GetEvents(**ask))
    return Deferred.fromCoroutine(events)


def events(house: LivedInHouse, name: str, **ask: Any) -> Any:
    return parsed(house, start(house, name, **ask))


def whole(house: LivedInHouse, name: str, limit: int = 10, archived: bool = False) -> Any:
    return parsed(house, get_all(house.house.part(OlderSync), house.who(name), GetAll(limit, archived)))


def bodies(answer: Any) -> list[str]:
    return [event["content"]["body"] for event in answer["chunk"] if event["type"] == "m.room.message"]


def test_somebody_outside_looks_on(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", initial_state=[OPEN])
    for number in range(3):
        house.say("alice", room_id, f"{number}")
    seen = snapshot(house, "bob", room_id, 2)
    assert bodies(seen["messages"]) == ["1", "2"] and seen["messages"]["start"] and "membership" not in seen
    assert {event["type"] for event in seen["state"]} >= {"m.room.create", "m.room.member", "m.room.power_levels"}
    assert all(event["room_id"] == room_id for event in seen["messages"]["chunk"] + seen["state"])
    begin = events(house, "bob", room_id=room_id, timeout=30_000)  # where to begin needs no waiting
    assert begin["chunk"] == [] and begin["end"] == seen["messages"]["end"]
    waiting = start(house, "bob", room_id=room_id, from_=begin["end"], timeout=30_000)
    house.say("alice", house.create("alice"), "elsewhere")
    house.advance(0)
    assert not waiting.called and house.house.hub.waiting == 1
    said = house.say("alice", room_id, "3")
    house.advance(0)
    news = parsed(house, waiting)
    assert ids(news) == [said] and house.house.hub.waiting == 0
    assert events(house, "bob", room_id=room_id, from_=news["end"])["chunk"] == []
    # Each look at this house's clock takes 10 ms.
    assert events(house, "bob", room_id=room_id, from_=news["end"], timeout=1)["end"] == news["end"]
    ignore(house, "bob", "alice")
    assert bodies(events(house, "bob", room_id=room_id, from_=begin["end"])) == []


def test_many_pages(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    from homeserver.sync import peeks

    monkeypatch.setattr(peeks, "MAX_LIMIT", 2)
    room_id = house.create("alice", preset="public_chat", initial_state=[OPEN])
    token = snapshot(house, "bob", room_id)["messages"]["end"]
    for number in range(5):
        house.say("alice", room_id, f"{number}")
    pages = []
    for _ in range(4):
        page = events(house, "bob", room_id=room_id, from_=token)
        token = page["end"]
        pages.append(bodies(page))
    assert pages == [["0", "1"], ["2", "3"], ["4"], []]


def test_a_door_that_closes_while_somebody_looks_on(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", initial_state=[OPEN])
    token = snapshot(house, "bob", room_id)["messages"]["end"]
    waiting = start(house, "bob", room_id=room_id, from_=token, timeout=30_000)
    house.set_state("alice", room_id, "m.room.history_visibility", {"history_visibility": "joined"})
    house.say("alice", room_id, "secret")
    house.advance(0)
    with pytest.raises(Forbidden):
        house.wait(waiting)
    for look in (lambda: snapshot(house, "bob", room_id), lambda: events(house, "bob", room_id=room_id)):
        with pytest.raises(Forbidden):
            look()
    assert house.house.hub.waiting == 0


def test_who_has_left_is_shown_how_it_was(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", topic="then")
    house.join("bob", room_id)
    house.say("alice", room_id, "before")
    token = whole(house, "bob")["end"]
    house.leave("bob", room_id)
    house.say("alice", room_id, "after")
    house.set_state("alice", room_id, "m.room.topic", {"topic": "now"})
    seen = snapshot(house, "bob", room_id)
    assert seen["membership"] == "leave" and bodies(seen["messages"]) == ["before"]
    assert [event["content"]["topic"] for event in seen["state"] if event["type"] == "m.room.topic"] == ["then"]
    assert bodies(events(house, "bob", room_id=room_id, from_=token)) == []
    assert [event["type"] for event in events(house, "bob", from_=token)["chunk"]] == ["m.room.member"]
    assert whole(house, "bob")["rooms"] == []
    (room,) = whole(house, "bob", archived=True)["rooms"]
    assert room["membership"] == "leave" and bodies(room["messages"]) == ["before"]
    assert [event["content"]["topic"] for event in room["state"] if event["type"] == "m.room.topic"] == ["then"]


def test_all_that_one_has(house: LivedInHouse) -> None:
    """Messages for devices, of which these clients are told nothing, stay where they are."""
    house.wait(house.house.database.write(add_device, user("alice")))
    room_id = house.create("alice", preset="public_chat")
    letter = house.house.part(Letterbox).send(house.who("bob"), "m.x", "t", {user("alice"): {"DEVICE": {"n": 1}}})
    house.wait(letter)
    house.say("alice", room_id, "hello")
    everything = whole(house, "alice", 1)
    (room,) = everything["rooms"]
    assert room["membership"] == "join" and bodies(room["messages"]) == ["hello"]
    assert len(room["state"]) >= 5 and room["messages"]["end"] == everything["end"]
    token = everything["end"]
    waiting = start(house, "alice", from_=token, timeout=30_000)
    invited = house.create("bob", invite=[user("alice")])
    house.advance(0)
    news = parsed(house, waiting)
    assert [(event["room_id"], event["state_key"]) for event in news["chunk"]] == [(invited, user("alice"))]
    assert {one["membership"] for one in whole(house, "alice")["rooms"]} == {"invite", "join"}
    assert events(house, "alice", from_=news["end"])["chunk"] == []
    assert house.sync("alice")["to_device"]["events"]


def test_what_can_not_be(house: LivedInHouse) -> None:
    room_id = house.create("alice", initial_state=[OPEN])
    for ask in ({"from_": "x"}, {"from_": "t1_x", "room_id": room_id}):
        with pytest.raises(InvalidParam):
            events(house, "alice", **ask)
    for look in (lambda: snapshot(house, "alice", room_id, -1), lambda: whole(house, "alice", -1)):
        with pytest.raises(MatrixError):
            look()

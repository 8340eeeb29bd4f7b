"""A connection's life: identifying in time, being slow, being silent, and going on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from homeserver.gateway.connection import Connection
from homeserver.gateway.stream import Place
from homeserver.sync.engine import Sync
from homeserver.userdata.account_data import AccountData
from tests.fixtures_house import LivedInHouse
from tests.gateway.fixtures import INFO, Ear, connect, settle

_txns = count(1)


def bodies(messages: list[Any]) -> list[str]:
    return [one["data"]["event"]["content"]["body"] for one in messages if one.get("type") == "message.created"]


def test_who_does_not_say_who_they_are(house: LivedInHouse) -> None:
    lobby = house.house.gateway.lobby
    ear = Ear(house)
    ear.connection = Connection(lobby, lobby.services, INFO, None)
    ear.connection.line = ear
    ear.connection.opened()
    house.advance(9)
    assert ear.ended is None
    house.advance(2)
    house.advance(2)
    assert ear.ended is not None and ear.ended.code == 4001
    assert lobby.count == 0


def test_pings(house: LivedInHouse) -> None:
    ear, mute = connect(house, "ann", []), connect(house, "bob", [])
    assert [one["op"] for one in ear.messages()] == ["ready"]
    for _ in range(3):
        for _ in range(25):
            house.advance(2)
        assert {"op": "ping"} in ear.messages()
        ear.say(op="pong")
    assert ear.ended is None
    assert mute.ended is not None and mute.ended.code == 4009


def test_slow_clients(house: LivedInHouse) -> None:
    room_id = house.create("ann", preset="public_chat")
    slow = connect(house, "ann", ["message"], capacity=4)
    for number in range(10):
        house.say("ann", room_id, str(number))
    assert bodies(slow.messages()) == ["0", "1", "2"] and slow.is_held
    settle(house)
    assert slow.messages() == []  # nothing is written, and nothing kept, for who takes nothing
    slow.take(4)
    assert bodies(slow.messages()) == ["3", "4", "5", "6"]
    slow.take(100)
    assert bodies(slow.messages()) == ["7", "8", "9"] and not slow.is_held
    slow.take(1)
    house.say("ann", room_id, "10")
    settle(house)
    for _ in range(20):
        house.advance(2)
        slow.say(op="pong")
    assert slow.ended is not None and slow.ended.code == 4009
    back = connect(house, "ann", ["message"], after=slow)
    assert bodies(back.messages()) == []
    house.say("ann", room_id, "11")
    assert bodies(back.messages()) == ["11"]


def test_far_behind(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeserver.gateway.stream.MOST_IN_A_ROOM", 5)
    room_id = house.create("ann", preset="public_chat")
    ear = connect(house, "ann", ["message"])
    ear.drop()
    for number in range(6):
        house.say("ann", room_id, str(number))
    back = connect(house, "ann", ["message"], after=ear)
    assert [one["op"] for one in back.messages()] == ["invalid_session", "ready"]
    other = connect(house, "ann/PHONE", ["message"], after=ear)
    assert [one["op"] for one in other.messages()] == ["invalid_session", "ready"]


def test_leaving_while_away(house: LivedInHouse) -> None:
    """Who resumes hears of rooms up to where they left, and from where they came."""
    room_id, other = (house.create("ann", preset="public_chat") for _ in range(2))
    house.join("bob", room_id)
    ear = connect(house, "bob", ["message", "room"])
    ear.drop()
    house.say("ann", room_id, "one")
    house.leave("bob", room_id)
    house.say("ann", room_id, "two")
    house.say("ann", other, "three")
    house.join("bob", other)
    house.say("ann", other, "four")
    back = connect(house, "bob", ["message", "room"], after=ear)
    messages = back.messages()
    assert bodies(messages) == ["one", "four"]
    told = [(one["type"], one["data"]["room_id"]) for one in messages if one["type"].startswith("room")]
    assert told == [("room.deleted", room_id), ("room.created", other)]


@given(st.integers(0, 2**49), st.integers(0, 7))
def test_places(position: int, step: int) -> None:
    place = Place.of(Place(position, step, 5).seq)
    assert place == Place(position, step, 0)
    assert place.after == (position if step == 7 else position - 1)
    assert Place.of(-1) is None and Place.of(2**53) is None


#: What may happen to somebody who listens: things are said, the line breaks, it comes back, it is slow.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 8)),
        st.tuples(st.just("drop"), st.just(0)),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("idle"), st.just(0)),
    ),
    min_size=4,
    max_size=10,
)


def test_nothing_is_lost_and_nothing_comes_twice(house: LivedInHouse) -> None:
    rooms = [house.create("ann", preset="public_chat") for _ in range(2)]
    for room_id in rooms:
        house.join("bob", room_id)

    @settings(max_examples=10)
    @given(steps=STEPS)
    def holds(steps: list[tuple[str, int]]) -> None:
        story(house, rooms, steps)

    holds()


def story(house: LivedInHouse, rooms: Sequence[str], steps: Sequence[tuple[str, int]]) -> None:
    ear = connect(house, "bob", ["message"])
    sent: list[str] = []
    heard: list[str] = []
    for kind, number in [*steps, ("drop", 0), ("take", 1000)]:
        match kind:
            case "say":
                for _ in range(number):
                    sent.append(str(len(sent)))
                    house.say("ann", rooms[len(sent) % 2], sent[-1], f"txn{next(_txns)}")
            case "take":
                ear.take(number)
            case "drop":
                heard += bodies(ear.messages())
                ear.drop()
                if len(sent) % 2:  # as after a while: what is in memory of the person's rooms is gone
                    feed = house.house.hub.feed(house.user("bob"))
                    assert feed is not None
                    house.house.hub.close_feed(feed)
                ear = connect(house, "bob", ["message"], after=ear, capacity=3)
            case _:
                settle(house)
    heard += bodies(ear.messages())
    ear.drop()
    assert heard == sent


def test_invitations(house: LivedInHouse) -> None:
    """Those of people whom one ignores are not told, now or later."""
    ignored: dict[str, Any] = {"ignored_users": {house.user("cay"): {}}}
    house.wait(house.house.part(AccountData).put(house.user("bob"), 0, "m.ignored_user_list", ignored))
    rooms = {name: house.create(name, preset="private_chat") for name in ("ann", "cay")}
    ear = connect(house, "bob", ["room"])
    for name, room_id in rooms.items():
        house.wait(house.memberships.invite(room_id, house.user(name), house.user("bob")))
    back = connect(house, "bob", ["room"], after=ear)
    assert ear.news("room_id", "membership") == [("room.created", rooms["ann"], "invite")]
    assert back.news("room_id", "membership") == [("room.created", rooms["ann"], "invite")]


def test_what_was_written_was_delivered(house: LivedInHouse) -> None:
    room_id = house.create("ann", preset="public_chat")
    house.join("bob", room_id)
    deaf, slow = connect(house, "bob", ["typing"]), connect(house, "bob", ["message"], capacity=2)
    deliveries = house.house.part(Sync).deliveries
    bob = house.user("bob")
    positions = []
    for number in range(2):
        house.say("ann", room_id, str(number))
        settle(house)
        positions.append(house.house.hub.position)
    assert deaf.ended is None and bodies(slow.messages()) == ["0"]
    reached = [house.wait(deliveries.of([bob], position)) for position in positions]
    assert list(reached[0]) == [bob] and reached[1] == {}
    slow.take(10)
    settle(house)
    assert list(house.wait(deliveries.of([bob], positions[1]))) == [bob]

"""Reading state and members: forms, filters, and places in the past."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.client import state_read
from homeserver.client.joined_rooms import get_joined_rooms
from homeserver.client.members import Members, get_members
from homeserver.client.state_read import PieceOfState, get_piece_of_state
from homeserver.errors import InvalidParam, NotFound
from homeserver.http.route import routes_of
from homeserver.streams.tokens import RoomToken
from tests.fixtures_rooms import Town, user


def members(town: Town, name: str, room_id: str, **query: Any) -> dict[str, str]:
    answer = town.answer(get_members(town.state, town.clock, town.who(name), Members(room_id, **query)))
    return {event["state_key"][1:].partition(":")[0]: event["content"]["membership"] for event in answer["chunk"]}


def piece(town: Town, name: str, *ask: Any) -> Any:
    return town.answer(get_piece_of_state(town.state, town.clock, town.who(name), PieceOfState(*ask)))


def test_content_or_event(town: Town) -> None:
    room_id = town.create("alice", name="Here")
    assert piece(town, "alice", room_id, "m.room.name") == {"name": "Here"}
    event = piece(town, "alice", room_id, "m.room.name", "", "event")
    assert (event["type"], event["state_key"], event["sender"]) == ("m.room.name", "", user("alice"))
    assert (event["content"], event["room_id"]) == ({"name": "Here"}, room_id)
    with pytest.raises(NotFound):
        piece(town, "alice", room_id, "m.room.name", "other")
    town.send("alice", room_id, "org.example.odd/type", {"a": 1}, "with/slash\x00")
    assert piece(town, "alice", room_id, "org.example.odd/type", "with/slash\x00") == {"a": 1}


def test_the_slash_behind_an_empty_state_key_is_optional() -> None:
    paths = {row.path.rpartition("/state")[2] for row in routes_of(state_read)}
    assert paths == {"", "/{event_type}", "/{event_type}/", "/{event_type}/{state_key}"}


def test_members_by_membership(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    for name in ("bob", "carol", "dave"):
        town.join(name, room_id)
    town.leave("carol", room_id)
    town.ban("alice", "dave", room_id)
    town.invite("alice", "eve", room_id)
    everybody = {"alice": "join", "bob": "join", "carol": "leave", "dave": "ban", "eve": "invite"}
    assert members(town, "bob", room_id) == everybody
    for membership in ("join", "leave", "ban", "invite", "knock"):
        some = {name: what for name, what in everybody.items() if what == membership}
        others = {name: what for name, what in everybody.items() if what != membership}
        assert members(town, "bob", room_id, membership=membership) == some
        assert members(town, "bob", room_id, not_membership=membership) == others
    # Both together mean either.
    assert members(town, "bob", room_id, membership="join", not_membership="leave") == {
        name: what for name, what in everybody.items() if what != "leave"
    }


@pytest.mark.parametrize("warm", [True, False])
def test_members_at_a_place_in_the_past(town: Town, warm: bool) -> None:
    room_id = town.create("alice", preset="public_chat")
    before = str(RoomToken(town.hub.position))
    town.join("bob", room_id)
    between = f"s1_{town.hub.position}_5"
    town.say("bob", room_id, "hello")
    town.leave("bob", room_id)
    after = str(RoomToken(town.hub.position))
    if not warm:
        town.rooms.drop(town.room(room_id))
    assert members(town, "alice", room_id, at=before) == {"alice": "join"}
    held = RoomToken(town.hub.position - 3, (town.hub.position,))
    assert members(town, "alice", room_id, at=str(held)) == members(town, "alice", room_id, at=before)
    assert members(town, "alice", room_id, at=between) == {"alice": "join", "bob": "join"}
    assert members(town, "alice", room_id, at=after) == {"alice": "join", "bob": "leave"}
    assert members(town, "alice", room_id, at="t1_0") == {"alice": "join"}  # before the room was: its first
    # Whoever has left looks no further than that, and no less far back.
    town.join("carol", room_id)
    assert members(town, "bob", room_id, at=str(RoomToken(town.hub.position))) == {"alice": "join", "bob": "leave"}
    assert members(town, "bob", room_id, at=before) == {"alice": "join"}
    with pytest.raises(InvalidParam):
        members(town, "alice", room_id, at="yesterday")


def test_joined_rooms(town: Town) -> None:
    here, there = town.create("alice", preset="public_chat"), town.create("alice", preset="public_chat")
    town.join("bob", here)
    town.join("bob", there)
    town.leave("bob", there)
    town.invite("alice", "carol", here)
    for name, rooms in (("alice", {here, there}), ("bob", {here}), ("carol", set()), ("stranger", set())):
        assert set(town.answer(get_joined_rooms(town.database, town.who(name)))["joined_rooms"]) == rooms

"""Guests in rooms: where one is closed to them, they leave."""

from __future__ import annotations

import pytest

from federation.room.identifiers import UserId
from homeserver.accounts.registration import Registration
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from tests.fixtures_house import LivedInHouse

ACCESS = "m.room.guest_access"


@pytest.fixture
def guest(house: LivedInHouse) -> str:
    return house.wait(house.house.part(Registration).make_guest())


@pytest.fixture
def room_id(house: LivedInHouse, guest: str) -> str:
    """A room with somebody who lives here, and a guest."""
    made = house.create("alice", preset="public_chat")
    house.set_state("alice", made, ACCESS, {"guest_access": "can_join"})
    house.join("bob", made)
    house.wait(house.memberships.join(made, guest, is_guest=True))
    return made


def members(house: LivedInHouse, room_id: str) -> set[str]:
    """Who of this server is in a room, once nothing is going on any more."""
    room = house.wait(house.house.part(Rooms).get(room_id))
    assert room is not None
    while "guests leave" in house.house.part(Tasks).names:
        house.wait(house.house.database.write(lambda cursor: None))
    return set(room.local_joined)


@pytest.mark.parametrize("content", [{"guest_access": "forbidden"}, {}])
def test_guests_leave_where_they_are_no_longer_let_in(
    house: LivedInHouse, room_id: str, guest: str, content: dict[str, str]
) -> None:
    house.set_state("alice", room_id, ACCESS, content)
    assert members(house, room_id) == {house.user("alice"), house.user("bob")}


def test_guests_stay_where_nothing_has_changed_for_them(house: LivedInHouse, room_id: str, guest: str) -> None:
    house.set_state("alice", room_id, ACCESS, {"guest_access": "can_join", "x": "y"})
    house.set_state("alice", room_id, "m.room.topic", {"topic": "no guests"})
    assert members(house, room_id) == {house.user("alice"), house.user("bob"), guest}


def test_who_was_a_guest_stays(house: LivedInHouse, room_id: str, guest: str) -> None:
    house.wait(house.house.part(Registration).promote_guest(UserId(guest), "correct horse", {}))
    house.set_state("alice", room_id, ACCESS, {"guest_access": "forbidden"})
    assert guest in members(house, room_id)

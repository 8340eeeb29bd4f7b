"""What several readers' answers have in common is made once: nobody is given what is another's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user

LAZY = {"room": {"state": {"lazy_load_members": True}}}
PEOPLE = ("alice", "bob", "carol", "dave")


@pytest.mark.parametrize("filter", [LAZY, {}], ids=["lazy", "everything"])
def test_each_reader_gets_what_it_would_get_alone(house: LivedInHouse, filter: Any) -> None:
    """Heroes leave out the reader, transaction ids are the sender's, and one filter is not another."""
    room_id = house.create("alice", preset="public_chat")
    for name in PEOPLE[1:]:
        house.join(name, room_id)
    room = house.wait(house.house.rooms.require(room_id))

    def read(name: str, since: str, filter: Any) -> Any:
        answer = house.sync(name, since, filter=filter)["rooms"]["join"][room_id]
        for event in (*answer["timeline"]["events"], *answer["state"]["events"]):
            event["unsigned"].pop("age")
        return answer

    since = house.sync("alice")["next_batch"]
    for change in (
        lambda: house.say("alice", room_id, "hello"),
        lambda: house.join("eve", room_id),
        lambda: house.leave("bob", room_id),
        lambda: house.join("bob", room_id),
        lambda: house.set_state("alice", room_id, "m.room.name", {"name": "Named"}),
        lambda: house.say("carol", room_id, "and goodbye"),
    ):
        change()
        readers = [name for name in PEOPLE if room.membership_of(user(name)) == "join"]
        together = [read(name, since, one) for one in (LAZY, {}, filter) for name in readers]
        alone = []
        for one in (LAZY, {}, filter):
            for name in readers:
                room.shared_sections.clear()
                alone.append(read(name, since, one))
        assert together == alone
        since = house.sync("alice", since)["next_batch"]


def test_a_room_knows_its_state_apart_from_its_members(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", topic="One")
    room = house.wait(house.house.rooms.require(room_id))

    def frame() -> dict[tuple[str, str], Any]:
        return {key: ref for key, ref in room.visible.state.items() if key[0] != "m.room.member"}

    assert room.frame == frame()
    house.set_state("alice", room_id, "m.room.topic", {"topic": "Two"})
    house.set_state("alice", room_id, "org.example.thing", {}, "key")
    house.join("bob", room_id)
    assert room.frame == frame()
    house.house.rooms.drop(room)
    again = house.wait(house.house.rooms.require(room_id))
    assert again is not room
    assert again.frame == frame()
    assert again.joined_count == 2
    assert again.local_joined == {user("alice"), user("bob")}
    assert again.servers == room.servers

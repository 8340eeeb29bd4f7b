"""Two servers share a room: joining, talking, leaving and coming back, in every kind of room version."""

from __future__ import annotations

import pytest

from homeserver.errors import MatrixError, NotFound
from tests.fixtures_fleet import Fleet, Member

VERSIONS = ["1", "2", "3", "6", "10", "11", "12"]


def same(room_id: str, *members: Member) -> None:
    """Everybody thinks the same of the room."""
    first = members[0]
    for other in members[1:]:
        assert other.state_of(room_id) == first.state_of(room_id)
        assert set(other.room(room_id).visible.head.extremities) == set(first.room(room_id).visible.head.extremities)


@pytest.mark.parametrize("version", VERSIONS)
def test_two_servers_talk(fleet: Fleet, version: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", name="Harbour", room_version=version)
    a.say("alice", room_id, "before bob")
    b.enter("bob", room_id, via=a)
    assert b.membership("bob", room_id) == "join" and a.membership("@bob:b.example", room_id) == "join"
    same(room_id, a, b)
    a.say("alice", room_id, "hello")
    fleet.settle()
    b.say("bob", room_id, "hello to you")
    fleet.settle()
    assert a.texts("alice", room_id)[-2:] == ["hello", "hello to you"]
    assert b.texts("bob", room_id)[-2:] == ["hello", "hello to you"]
    same(room_id, a, b)


def test_on_both_databases(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    a.say("alice", room_id, "hello")
    b.say("bob", room_id, "at the same time")
    any_fleet.settle()
    assert sorted(b.texts("bob", room_id)) == sorted(a.texts("alice", room_id)) == ["at the same time", "hello"]
    a.set_state("alice", room_id, "m.room.topic", {"topic": "forks"})
    any_fleet.settle()
    same(room_id, a, b)
    b.leave("bob", room_id)
    any_fleet.settle()
    assert a.membership("@bob:b.example", room_id) == "leave"
    b.enter("bob", room_id, via=a)
    any_fleet.settle()
    same(room_id, a, b)


def test_a_third_server_hears_of_a_join(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    c.enter("carol", room_id, via=b)
    fleet.settle()
    same(room_id, a, b, c)
    c.say("carol", room_id, "hello all")
    fleet.settle()
    assert a.texts("alice", room_id) == b.texts("bob", room_id) == ["hello all"]


def test_a_second_person_joins_without_asking_anybody(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.requests.clear()
    b.enter("beth", room_id)
    assert fleet.requests == []
    fleet.settle()
    assert a.membership("@beth:b.example", room_id) == "join"


def test_joining_by_whoever_can_be_reached(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("bob", room_id, via=a)
    c.enter("carol", a.create("alice", preset="public_chat"), via=a)  # so c has a's keys, as any notary would
    fleet.settle()
    fleet.down.add(a.name)
    c.wait(c.memberships.join(room_id, "@carol:c.example", via=["nowhere.example", a.name, b.name]))
    assert c.membership("carol", room_id) == "join"
    fleet.settle()
    assert b.membership("@carol:c.example", room_id) == "join"
    fleet.down.clear()
    fleet.settle()
    same(room_id, a, b, c)


def test_joins_that_are_refused(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    private = a.create("alice", preset="private_chat")
    with pytest.raises(NotFound):
        b.enter("bob", private)  # nobody is named who could help
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", private, via=a)
    assert (refusal.value.status, refusal.value.errcode) == (403, "M_FORBIDDEN")
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", "!nothing:a.example", via=a)
    assert refusal.value.status == 404
    fleet.down.add(a.name)
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", private, via=a)
    assert refusal.value.status == 502


def test_coming_back_after_the_room_went_on(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", power_level_content_override={"events": {"m.room.topic": 0}})
    b.enter("bob", room_id, via=a)
    b.set_state("bob", room_id, "m.room.topic", {"topic": "as bob left it"})
    b.leave("bob", room_id)
    fleet.settle()
    a.set_state("alice", room_id, "m.room.topic", {"topic": "new"})
    a.set_state("alice", room_id, "m.room.name", {"name": "New"})
    a.say("alice", room_id, "unheard")
    fleet.settle()
    assert ("m.room.name", "") not in b.state_of(room_id)
    b.enter("bob", room_id, via=a)
    fleet.settle()
    same(room_id, a, b)
    b.say("bob", room_id, "back")
    fleet.settle()
    assert a.texts("alice", room_id)[-1] == "back"


def test_kicked_and_banned_by_another_server(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    b.enter("beth", room_id)
    fleet.settle()
    a.kick("alice", "@bob:b.example", room_id)
    fleet.settle()
    assert b.membership("bob", room_id) == "leave"
    b.enter("bob", room_id)
    fleet.settle()
    a.ban("alice", "@bob:b.example", room_id)
    a.kick("alice", "@beth:b.example", room_id)
    fleet.settle()
    assert b.membership("bob", room_id) == "ban" and b.membership("beth", room_id) == "leave"
    same(room_id, a, b)
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", room_id, via=a)
    assert refusal.value.status == 403


def test_a_restricted_room_is_opened_by_a_server_that_may(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    club = a.create("alice", preset="public_chat", room_version="10")
    rules = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    room_id = a.create(
        "alice",
        room_version="10",
        power_level_content_override={"invite": 50},
        initial_state=[{"type": "m.room.join_rules", "content": rules}],
    )
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", room_id, via=a)
    assert refusal.value.status == 403
    b.enter("bob", club, via=a)
    b.enter("bob", room_id, via=a)
    fleet.settle()
    same(room_id, a, b)
    # Nobody on b may vouch, so a is asked although b is in the room.
    b.enter("beth", club)
    fleet.settle()
    b.enter("beth", room_id)
    fleet.settle()
    assert a.membership("@beth:b.example", room_id) == "join"
    same(room_id, a, b)
    with pytest.raises(NotFound):
        b.enter("bob", "!unknown", via=None)

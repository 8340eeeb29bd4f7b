"""Friends and direct rooms of people on two servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, gatherResults

from federation.outbound.transport import Refused
from homeserver.friends.direct import DirectRooms
from homeserver.friends.friendships import Friendships
from tests.fixtures_fleet import fleet_on_sqlite
from tests.friends.people import FriendFleet, FriendMember
from tests.guilds.api import at

NOBODY: tuple[list[str], list[str], list[str]] = ([], [], [])


@pytest.fixture
def world(tmp_path: Path, sqlite_model: Path) -> Iterator[FriendFleet]:
    found = fleet_on_sqlite(tmp_path, sqlite_model, FriendFleet)
    yield found
    found.close()


def rooms_of(member: FriendMember, name: str) -> dict[str, list[str]]:
    """Ids of the rooms that somebody is in, and is invited to."""
    rooms = member.sync(name).get("rooms", {})
    return {kind: sorted(rooms.get(kind, {})) for kind in ("join", "invite")}


def test_a_friend_on_another_server(world: FriendFleet) -> None:
    a, b = world.two()
    ann, bob = a.user("ann"), b.user("bob")
    assert a.befriend("ann", bob) == "requested"
    world.come_to_rest()
    assert a.circle("ann") == ([], [], ["bob"]) and b.circle("bob") == ([], ["ann"], [])
    assert b.ear.of(bob) == ["friend_request.received"]
    b.done("bob", "POST", at("friends", "requests", ann, "accept"))
    world.come_to_rest()
    assert a.circle("ann") == (["bob"], [], []) and b.circle("bob") == (["ann"], [], [])
    assert "friend_request.accepted" in a.ear.of(ann)
    room_id = a.dm("ann", bob)
    assert b.dm("bob", ann) == room_id
    assert a.direct("ann") == {bob: [room_id]} and b.direct("bob") == {ann: [room_id]}
    b.done("bob", "DELETE", at("friends", ann))
    world.come_to_rest()
    assert a.circle("ann") == b.circle("bob") == NOBODY
    assert a.ear.of(ann) == ["friend_request.removed"]
    # A new request is said in the room that there is; its answer is no.
    assert a.befriend("ann", bob) == "requested"
    world.come_to_rest()
    assert b.circle("bob") == ([], ["ann"], [])
    b.done("bob", "POST", at("friends", "requests", ann, "decline"))
    world.come_to_rest()
    assert a.circle("ann") == b.circle("bob") == NOBODY
    assert a.ear.of(ann) == ["friend_request.declined"]
    assert a.dms("ann") == {bob: room_id} and b.dms("bob") == {ann: room_id}


def test_declining_and_taking_back(world: FriendFleet) -> None:
    a, b = world.two()
    ann, bob = a.user("ann"), b.user("bob")
    a.befriend("ann", bob)
    world.come_to_rest()
    b.done("bob", "POST", at("friends", "requests", ann, "decline"))
    world.come_to_rest()
    assert a.circle("ann") == b.circle("bob") == NOBODY and rooms_of(b, "bob")["invite"] == []
    assert "friend_request.declined" in a.ear.of(ann)
    a.befriend("ann", bob)
    world.come_to_rest()
    assert b.circle("bob") == ([], ["ann"], [])
    a.done("ann", "POST", at("friends", "requests", bob, "cancel"))
    world.come_to_rest()
    assert a.circle("ann") == b.circle("bob") == NOBODY
    assert rooms_of(b, "bob") == {"join": [], "invite": []}
    assert "friend_request.removed" in b.ear.of(bob)


@pytest.mark.parametrize("asking", [False, True], ids=["writing", "asking"])
def test_both_at_the_same_moment(world: FriendFleet, asking: bool) -> None:
    """Each side makes a room, since neither knows of the other's: one of them stays."""
    a, b = world.two()
    ann, bob = a.user("ann"), b.user("bob")

    async def act(member: FriendMember, user_id: str, other_id: str) -> None:
        direct, friendships = member.house.part(DirectRooms), member.house.part(Friendships)
        if asking:
            await friendships.request(user_id, other_id)
        else:
            await direct.alone(user_id, other_id, lambda: direct.open(user_id, other_id))

    async def both() -> None:
        await gatherResults([Deferred.fromCoroutine(act(a, ann, bob)), Deferred.fromCoroutine(act(b, bob, ann))])

    world.wait(both())
    world.come_to_rest()
    assert len([path for *_, path in world.requests if "/invite/" in path]) == 2, "they did cross"
    room_id = a.dm("ann", bob)
    assert b.dm("bob", ann) == room_id
    world.come_to_rest()
    assert rooms_of(a, "ann") == rooms_of(b, "bob") == {"join": [room_id], "invite": []}
    assert a.direct("ann") == {bob: [room_id]} and b.direct("bob") == {ann: [room_id]}
    friends: tuple[object, object] = (["bob"], [], []), (["ann"], [], [])
    assert (a.circle("ann"), b.circle("bob")) == (friends if asking else (NOBODY, NOBODY))


def test_a_server_that_is_away(world: FriendFleet) -> None:
    a, b = world.two()
    bob = b.user("bob")
    world.down.add(b.name)
    for path in ("dms", "friends/requests"):
        assert a.refused("ann", "POST", path, {"user_id": bob}).startswith("503")
    assert a.refused("ann", "POST", "dms", {"user_id": "@x:nowhere.example"}).startswith("503")
    assert rooms_of(a, "ann") == {"join": [], "invite": []} and a.dms("ann") == {} and a.direct("ann") == {}
    world.down.clear()
    assert a.befriend("ann", bob) == "requested"
    world.come_to_rest()
    assert b.circle("bob") == ([], ["ann"], [])
    assert b.refused("bob", "POST", "dms", {"user_id": a.user("guildhall")}).startswith("403")


def test_what_cannot_be_said_in_the_room_is_told_beside_it(world: FriendFleet) -> None:
    """An older direct room, in which the one who came stands at level 0."""
    a, b = world.two()
    ann, bob = a.user("ann"), b.user("bob")
    room_id = a.create("ann", preset="private_chat", is_direct=True, invite=[bob])
    world.come_to_rest()
    assert b.dm("bob", ann) == room_id
    world.come_to_rest()
    assert b.befriend("bob", ann) == "requested"
    world.come_to_rest()
    assert a.circle("ann") == ([], ["bob"], []) and a.ear.of(ann)[-1] == "friend_request.received"
    a.done("ann", "POST", at("friends", "requests", bob, "accept"))
    world.come_to_rest()
    assert a.circle("ann") == (["bob"], [], []) and b.circle("bob") == (["ann"], [], [])
    b.done("bob", "DELETE", at("friends", ann))
    world.come_to_rest()
    assert a.circle("ann") == b.circle("bob") == NOBODY
    # A server speaks for its own people, of rooms for two that they are in.
    mine = "/_matrix/federation/unstable/chat.guildhall/friends"
    crowd = a.create("ann", preset="public_chat")
    for path, body, status in (
        (at(room_id, ann), {"half": "requested"}, 403),
        (at(room_id, b.user("cat")), {"half": "requested"}, 403),
        (at(crowd, bob), {"half": "requested"}, 403),
        (at("!none", bob), {"half": "requested"}, 404),
        (at(room_id, "nobody"), {"half": "requested"}, 400),
        (at(room_id, bob), {"half": "friends"}, 400),
        (at(room_id, bob), {}, 400),
    ):
        with pytest.raises(Refused) as caught:
            b.ask(a, "PUT", f"{mine}/{path}", body)
        assert caught.value.status == status, path
    assert a.circle("ann") == NOBODY

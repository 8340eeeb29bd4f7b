"""Friends and direct rooms of people on one server."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults

from homeserver.friends.direct import DirectRooms
from homeserver.friends.friendships import Friendships
from homeserver.rooms.create import RoomMaker
from homeserver.userdata.account_data import GLOBAL, AccountData
from tests.friends.people import FriendHouse, street
from tests.guilds.api import at

__all__ = ["street"]

NOBODY: tuple[list[str], list[str], list[str]] = ([], [], [])


def test_one_room_from_whichever_side(street: FriendHouse) -> None:
    room_id = street.dm("ann", "bob")
    assert street.dm("ann", "bob") == room_id
    assert street.direct("ann") == {street.user("bob"): [room_id]}
    assert street.direct("bob") == {} and street.dms("bob") == {}
    assert street.membership("bob", room_id) == "invite"
    assert street.dm("bob", "ann") == room_id
    street.rest()
    assert street.direct("bob") == {street.user("ann"): [room_id]}
    assert street.dms("ann") == {street.user("bob"): room_id} and street.dms("bob") == {street.user("ann"): room_id}
    # Either says what it likes there; who goes is asked back, into the same room.
    street.say("bob", room_id, "hello")
    street.set_state("bob", room_id, "m.room.name", {"name": "Us"})
    street.leave("bob", room_id)
    street.rest()
    assert street.direct("bob") == {} and street.dms("bob") == {}
    assert street.dm("ann", "bob") == room_id
    street.join("bob", room_id)
    street.rest()
    assert street.dms("bob") == {street.user("ann"): room_id}
    assert street.circle("ann") == NOBODY, "writing to somebody makes no friends"


def test_both_open_it_at_the_same_moment(street: FriendHouse) -> None:
    direct = street.house.part(DirectRooms)
    ann, bob = street.user("ann"), street.user("bob")

    async def from_both_sides() -> list[str]:
        opening = [
            Deferred.fromCoroutine(direct.alone(one, other, lambda one=one, other=other: direct.open(one, other)))  # type: ignore[misc]
            for one, other in ((ann, bob), (bob, ann), (ann, bob))
        ]
        return list(await gatherResults(opening))

    assert len(set(street.wait(from_both_sides()))) == 1
    street.rest()
    assert street.dms("ann")[bob] == street.dms("bob")[ann]


def test_asking_and_accepting(street: FriendHouse) -> None:
    assert street.ask("ann", "bob") == "requested"
    assert street.circle("ann") == ([], [], ["bob"]) and street.circle("bob") == ([], ["ann"], [])
    bob, ann = street.user("bob"), street.user("ann")
    (shown,) = street.call("bob", "GET", "friends")["incoming"]
    invited = street.sync("bob")["rooms"]["invite"][shown["room_id"]]["invite_state"]["events"]
    assert any(event["content"].get("chat.guildhall.friend_request") for event in invited)
    assert street.ear.of(bob) == ["friend_request.received"] and street.ear.of(ann) == ["dm.created"]
    street.act("bob", "accept", "ann")
    assert street.circle("ann") == (["bob"], [], []) and street.circle("bob") == (["ann"], [], [])
    room_id = street.dms("ann")[bob]
    assert street.half(room_id, "ann") == street.half(room_id, "bob") == "accepted"
    assert street.ear.of(ann) == ["friend_request.accepted"]
    assert sorted(street.ear.of(bob)) == ["dm.created", "friend_request.accepted"]
    assert street.ask("ann", "bob") == street.ask("bob", "ann") == "accepted"
    # Removing keeps the room, and the other side sees it; asking again is a new request, in that room.
    street.unfriend("bob", "ann")
    assert street.circle("ann") == street.circle("bob") == NOBODY
    assert street.half(room_id, "ann") == street.half(room_id, "bob") == "removed"
    assert street.ear.of(ann) == ["friend_request.removed"]
    assert street.refused("bob", "DELETE", at("friends", ann)).startswith("404")
    assert street.ask("bob", "ann") == "requested"
    assert street.circle("ann") == ([], ["bob"], []) and street.circle("bob") == ([], [], ["ann"])
    street.act("ann", "decline", "bob")
    assert street.circle("ann") == street.circle("bob") == NOBODY
    assert street.ear.of(bob)[-1] == "friend_request.declined"
    assert street.dm("ann", "bob") == room_id


def test_requests_that_cross(street: FriendHouse) -> None:
    friendships = street.house.part(Friendships)
    ann, bob = street.user("ann"), street.user("bob")

    async def both() -> None:
        asking = [Deferred.fromCoroutine(friendships.request(*pair)) for pair in ((ann, bob), (bob, ann))]
        await gatherResults(asking)

    street.wait(both())
    assert street.circle("ann") == (["bob"], [], []) and street.circle("bob") == (["ann"], [], [])
    room_id = street.dms("ann")[bob]
    assert street.half(room_id, "ann") == street.half(room_id, "bob") == "accepted"


def test_joining_is_accepting(street: FriendHouse) -> None:
    """A client that knows nothing of friends shows an invitation to a direct room; it joins, or declines."""
    street.ask("ann", "bob")
    room_id = street.call("ann", "GET", "friends")["outgoing"][0]["room_id"]
    street.join("bob", room_id)
    assert street.circle("bob") == (["ann"], [], []) and street.circle("ann") == (["bob"], [], [])
    assert street.direct("bob") == {street.user("ann"): [room_id]}
    street.ask("ann", "cat")
    street.rest()
    street.ear.heard.clear()
    other_id = street.call("ann", "GET", "friends")["outgoing"][0]["room_id"]
    street.leave("cat", other_id)
    assert street.circle("ann") == (["bob"], [], []) and street.circle("cat") == NOBODY
    assert street.ear.of(street.user("ann")) == ["friend_request.declined"]
    assert street.half(other_id, "ann") == "removed"
    # And whoever leaves the room is nobody's friend by it.
    street.leave("bob", room_id)
    assert street.circle("ann") == NOBODY and street.circle("bob") == NOBODY


def test_declining_and_taking_back(street: FriendHouse) -> None:
    street.ask("ann", "bob")
    street.rest()
    assert street.refused("ann", "POST", at("friends", "requests", street.user("bob"), "accept")).startswith("404")
    assert street.refused("bob", "POST", at("friends", "requests", street.user("ann"), "cancel")).startswith("404")
    street.act("bob", "decline", "ann")
    assert street.circle("ann") == street.circle("bob") == NOBODY
    assert street.refused("bob", "POST", at("friends", "requests", street.user("ann"), "accept")).startswith("404")
    assert street.ask("ann", "bob") == "requested"
    assert street.circle("bob") == ([], ["ann"], [])
    street.ear.heard.clear()
    street.act("ann", "cancel", "bob")
    assert street.circle("ann") == street.circle("bob") == NOBODY
    assert "friend_request.removed" in street.ear.of(street.user("bob"))
    assert street.dms("ann") == {} and street.direct("ann") == {} and "rooms" not in street.sync("bob")


def test_a_request_where_there_is_a_room_already(street: FriendHouse) -> None:
    room_id = street.dm("ann", "bob")
    assert street.ask("ann", "bob") == "requested"
    assert street.circle("bob") == ([], ["ann"], []), "the invitation is one by now"
    assert street.dm("bob", "ann") == room_id
    assert street.circle("bob") == (["ann"], [], [])
    street.dm("cat", "dan")
    street.dm("dan", "cat")
    assert street.ask("dan", "cat") == "requested"
    assert street.circle("cat") == ([], ["dan"], [])
    street.act("dan", "cancel", "cat")
    assert street.circle("cat") == NOBODY and street.dms("cat")
    assert street.ask("cat", "dan") == "requested" and street.ask("dan", "cat") == "accepted"
    assert street.circle("cat") == (["dan"], [], [])


def test_who_cannot_say_it_in_the_room(street: FriendHouse) -> None:
    """An older direct room of a client's making, in which the other stands at level 0."""
    ann, bob = street.user("ann"), street.user("bob")
    room_id = street.create("ann", preset="private_chat", is_direct=True, invite=[bob])
    street.join("bob", room_id)
    street.rest()
    assert street.dm("bob", "ann") == street.dm("ann", "bob") == room_id
    assert street.direct("bob") == {ann: [room_id]} and street.direct("ann") == {bob: [room_id]}
    assert street.ask("bob", "ann") == "requested"
    assert street.circle("ann") == ([], ["bob"], []) and street.circle("bob") == ([], [], ["ann"])
    street.act("ann", "accept", "bob")
    assert street.circle("ann") == (["bob"], [], []) and street.circle("bob") == (["ann"], [], [])
    street.unfriend("ann", "bob")
    assert street.circle("bob") == NOBODY
    assert ("chat.guildhall.friend", bob) not in street.live(room_id).visible.state


def test_rooms_that_only_a_client_calls_direct(street: FriendHouse) -> None:
    ann, bob = street.user("ann"), street.user("bob")
    old = street.create("ann", preset="trusted_private_chat", invite=[bob])
    street.join("bob", old)
    street.rest()
    crowd = street.create("ann", preset="private_chat", invite=[bob, street.user("cat")])
    street.join("bob", crowd)
    content = {bob: [crowd, old, "!none"], street.user("cat"): "!odd", "x": [5]}
    street.wait(street.house.part(AccountData).put(ann, GLOBAL, "m.direct", content))
    assert street.dms("ann") == {bob: old}
    assert street.dm("ann", "bob") == old


def test_whom_one_does_not_want_to_hear_of(street: FriendHouse) -> None:
    data = street.house.part(AccountData)
    ann, bob = street.user("ann"), street.user("bob")
    street.wait(data.put(bob, GLOBAL, "m.ignored_user_list", {"ignored_users": {ann: {}}}))
    assert street.ask("ann", "bob") == "requested"
    assert street.circle("bob") == NOBODY and street.circle("ann") == ([], [], ["bob"])
    assert street.ear.of(bob) == []
    street.wait(data.put(bob, GLOBAL, "m.invite_permission_config", {"default_action": "block"}))
    assert street.refused("cat", "POST", "friends/requests", {"user_id": bob}).startswith("403 M_INVITE_BLOCKED")
    assert street.dms("cat") == {} and "rooms" not in street.sync("cat"), "no room is left of it"


def test_who_can_be_asked(street: FriendHouse) -> None:
    for path in ("friends/requests", "dms"):
        assert street.refused("ann", "POST", path, {"user_id": street.user("nobody")}).startswith("404")
        assert "user_id" in street.refused("ann", "POST", path, {"user_id": street.user("ann")})
        assert street.refused("ann", "POST", path, {"user_id": "bob"}).startswith("400")
        assert street.refused("ann", "POST", path, {}).startswith("400")
        assert street.refused("ann", "POST", path, {"user_id": street.steward}).startswith("403")
    assert "rooms" not in street.sync("ann")
    for other in (street.user("bob"), "@x:elsewhere.example", "no id"):
        for verb in ("accept", "decline", "cancel"):
            assert street.refused("ann", "POST", at("friends", "requests", other, verb))[:3] in ("404", "400")


def test_it_is_heeded_after_a_crash(street: FriendHouse) -> None:
    """What was committed and not yet heeded is found at the next start."""
    street.ask("ann", "bob")
    room_id = street.call("ann", "GET", "friends")["outgoing"][0]["room_id"]
    street.rest()
    street.wait(street.house.friends.tidy())
    observers = street.house.part(RoomMaker).door.observers
    observers.remove(street.house.friends.watch)
    street.join("bob", room_id)
    street.set_state("bob", room_id, "chat.guildhall.friend", {"state": "accepted"}, street.user("bob"))
    observers.append(street.house.friends.watch)
    assert street.circle("ann") == ([], [], ["bob"])
    street.wait(street.house.friends.start())
    assert street.circle("ann") == (["bob"], [], []) and street.circle("bob") == (["ann"], [], [])

"""How people of one server find rooms of another."""

from __future__ import annotations

from typing import Any

from homeserver.harness.client import until
from homeserver.harness.person import Person, in_path
from tests.fixtures_town import Cast, scenario


def localpart(person: Person) -> str:
    return person.user_id.split(":")[0][1:]


@scenario("host", "guest")
def test_public_rooms(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    mark = localpart(alice)
    body = {"visibility": "public", "preset": "public_chat", "topic": "Open to all"}
    rooms = [cast.room(alice, name=f"{mark} {number}", **body) for number in range(3)]
    cast.room(alice, name=f"{mark} hidden", preset="public_chat")

    def found(**more: object) -> Any:
        body = {"filter": {"generic_search_term": mark}, **more}
        return bob.call("POST", "/_matrix/client/v3/publicRooms", body, {"server": host.name})

    until(lambda: {room["room_id"] for room in found()["chunk"]}, set(rooms))
    (one,) = [room for room in found()["chunk"] if room["room_id"] == rooms[0]]
    assert (one["name"], one["topic"], one["num_joined_members"]) == (f"{mark} 0", "Open to all", 1)
    assert (one["join_rule"], one["world_readable"], one["guest_can_join"]) == ("public", False, False)
    first = found(limit=2)
    rest = found(limit=2, since=first["next_batch"])
    assert len(first["chunk"]) == 2
    assert {room["room_id"] for room in first["chunk"] + rest["chunk"]} == set(rooms)
    bob.join(rooms[0], via=[host])


@scenario("host", "guest")
def test_aliases(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, preset="public_chat")
    theirs = f"#{localpart(alice)}/ü:{host.name}"
    path = f"/_matrix/client/v3/directory/room/{in_path(theirs)}"
    assert bob.request("GET", path).status == 404
    alice.call("PUT", path, {"room_id": room_id})
    found = bob.call("GET", path)
    assert found["room_id"] == room_id
    assert host.name in found["servers"]
    assert bob.request("DELETE", path).status in (403, 404), "it is another server's"
    bob.join(theirs)
    # The guest's own server gives the room a name too, and a third person comes over that.
    own = f"#{localpart(bob)}:{guest.name}"
    bob.call("PUT", f"/_matrix/client/v3/directory/room/{in_path(own)}", {"room_id": room_id})
    carol = cast.person("carol", host)
    assert carol.join(own) == room_id
    alice.set_state(room_id, "m.room.canonical_alias", {"alias": theirs, "alt_aliases": [own]})
    until(lambda: bob.content_of(room_id, "m.room.canonical_alias"), {"alias": theirs, "alt_aliases": [own]})
    alice.call("DELETE", path)
    assert bob.request("GET", path).status == 404

"""Spaces whose rooms are on several servers, what a room is before one comes in, and rooms that move."""

from __future__ import annotations

import itertools
from typing import Any

from homeserver.harness.client import until
from homeserver.harness.person import Person, in_path
from homeserver.harness.server import Server
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members

_numbers = itertools.count()


def walk(person: Person, space: str) -> list[str]:
    page = person.call("GET", f"/_matrix/client/v1/rooms/{in_path(space)}/hierarchy")
    return [room["room_id"] for room in page["rooms"]]


def link(person: Person, space: str, room_id: str, server: Server) -> None:
    person.set_state(space, "m.space.child", {"via": [server.name]}, room_id)


def summary(person: Person, room_id: str, via: Server) -> Any:
    return person.call("GET", f"/_matrix/client/v1/room_summary/{in_path(room_id)}", query={"via": via.name})


def members_of(*room_ids: str) -> list[dict[str, Any]]:
    allow = [{"type": "m.room_membership", "room_id": room_id} for room_id in room_ids]
    return [{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "restricted", "allow": allow}}]


@scenario("host", "guest")
def test_a_tree_over_two_servers(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    space = cast.room(alice, preset="public_chat", creation_content={"type": "m.space"})
    inner = cast.room(bob, preset="public_chat", creation_content={"type": "m.space"})
    own = cast.room(alice, preset="public_chat")
    theirs = cast.room(bob, preset="public_chat")
    club = cast.room(bob, preset="private_chat", initial_state=members_of(space))
    secret = cast.room(bob, preset="private_chat")
    link(alice, space, own, host)
    link(alice, space, inner, guest)
    for room_id in (theirs, club, secret):
        link(bob, inner, room_id, guest)
    until(lambda: walk(alice, space), [space, own, inner, theirs])
    bob.join(space, via=[host])
    wait_for_members(space, alice, bob)
    assert walk(bob, space) == [space, own, inner, theirs, club, secret]
    # The guest knows now that somebody of the host is in the space. What it told before may be kept for a while.
    other = cast.room(alice, preset="public_chat", creation_content={"type": "m.space"})
    link(alice, other, club, guest)
    until(lambda: walk(alice, other), [other, club])
    carol = cast.person("carol", host)
    assert walk(carol, other) == [other]


@scenario("host", "guest")
def test_a_summary(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    encrypted = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room_id = cast.room(alice, preset="public_chat", name="Den", topic="Bears", initial_state=[encrypted])
    told = summary(bob, room_id, host)
    assert (told["room_id"], told["name"], told["topic"], told["join_rule"]) == (room_id, "Den", "Bears", "public")
    assert (told["num_joined_members"], told["room_version"]) == (1, cast.version)
    assert told["encryption"] == "m.megolm.v1.aes-sha2"
    secret = cast.room(alice, preset="private_chat", name="Nobody's business")
    answer = bob.request("GET", f"/_matrix/client/v1/room_summary/{in_path(secret)}", query={"via": host.name})
    assert answer.status in (403, 404)


@scenario("host", "guest")
def test_a_room_moves(cast: Cast) -> None:
    """Whoever is elsewhere follows the tombstone, and finds the new room by the old one's name."""
    host, guest = cast
    alice, bob, mallory = cast.person("alice", host), cast.person("bob", guest), cast.person("mallory", guest)
    name = alice.user_id.split(":")[0][1:]
    old = cast.room(alice, preset="public_chat", name="Pub", room_alias_name=name)
    bob.join(old, via=[host])
    wait_for_members(old, alice, bob)
    alice.ban(old, mallory, "rude")
    answer = alice.call("POST", f"/_matrix/client/v3/rooms/{in_path(old)}/upgrade", {"new_version": "12"})
    new = answer["replacement_room"]
    until(lambda: (bob.content_of(old, "m.room.tombstone") or {}).get("replacement_room"), new)
    late = {"msgtype": "m.text", "body": "one more"}
    send = f"/_matrix/client/v3/rooms/{in_path(old)}/send/m.room.message/"
    until(lambda: bob.request("PUT", f"{send}{next(_numbers)}", late).status, 403)
    assert bob.join(f"#{name}:{host.name}") == new
    wait_for_members(new, alice, bob)
    wait_for_agreement(new, alice, bob)
    assert bob.content_of(new, "m.room.create")["predecessor"]["room_id"] == old
    assert bob.content_of(new, "m.room.name") == {"name": "Pub"}
    assert bob.membership_of(new, mallory) == "ban"
    assert mallory.request("POST", f"/_matrix/client/v3/join/{in_path(new)}", {}, {"via": host.name}).status == 403

"""Coming into a room of many members: at once with part of its state, and with all of it soon after."""

from __future__ import annotations

from typing import Any

from homeserver.harness.client import until
from homeserver.harness.faults import Fault, Kind
from homeserver.harness.person import Person
from homeserver.harness.server import Server
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members
from tests.scenarios.test_talking import heard

MEMBERS = 12
LAZY = '{"room":{"state":{"lazy_load_members":true}}}'


@scenario("host", "guest", "third")
def test_a_join_without_the_members(cast: Cast) -> None:
    """`send_join` with `omit_members`: who comes may speak at once, and knows everybody before long."""
    host, guest, third = cast
    alice, carol = cast.person("alice", host), cast.person("carol", third)
    room_id = cast.room(alice, preset="public_chat", name="Stadium")
    others = [cast.person(f"m{number}", host) for number in range(MEMBERS)]
    for other in others:
        other.join(room_id)
    carol.join(room_id, via=[host])
    wait_for_members(room_id, alice, carol, *others[:1], everybody=[alice, carol, *others])
    bob = cast.person("bob", guest)
    bob.join(room_id, via=[host])
    bob.say(room_id, "hello")
    heard(room_id, ["hello"], alice, carol, bob)
    carol.say(room_id, "welcome")
    heard(room_id, ["hello", "welcome"], alice, carol, bob)
    wait_for_members(room_id, alice, bob, carol, everybody=[alice, bob, carol, *others])
    wait_for_agreement(room_id, alice, bob, carol)
    assert_without_members(cast, guest, host)
    # What it learnt late is right: a name that changed meanwhile, and who left.
    others[0].set_profile("displayname", "Zero")
    others[1].leave(room_id)
    until(lambda: (bob.content_of(room_id, "m.room.member", others[0].user_id) or {}).get("displayname"), "Zero")
    until(lambda: bob.membership_of(room_id, others[1]), "leave")
    wait_for_agreement(room_id, alice, bob, carol)


@scenario("host", "guest")
def test_speaking_before_the_members_are_known(cast: Cast) -> None:
    """As long as the host does not tell who is in the room, the guest's people talk in it all the same."""
    host, guest = cast
    alice = cast.person("alice", host)
    room_id = cast.room(alice, preset="public_chat", name="Arena")
    others = [cast.person(f"m{number}", host) for number in range(MEMBERS)]
    for other in others:
        other.join(room_id)
    wait_for_members(room_id, alice, everybody=[alice, *others])
    bob = cast.person("bob", guest)
    with cast.lines.fault(Fault(Kind.HOLD, origin=guest.name, destination=host.name, path="*/state*")):
        bob.join(room_id, via=[host])
        bob.say(room_id, "hello")
        heard(room_id, ["hello"], alice)
        alice.say(room_id, "welcome")
        others[3].say(room_id, "and from me")
        # Who has clients that load members lazily reads along; to others the room is not shown by halves.
        until(lambda: [event["content"]["body"] for event in said(bob, room_id)], ["hello", "welcome", "and from me"])
        bob.set_state(room_id, "m.room.member", {"membership": "join", "displayname": "Bobby"}, bob.user_id)
        until(lambda: (alice.content_of(room_id, "m.room.member", bob.user_id) or {}).get("displayname"), "Bobby")
        assert room_id not in bob.rooms("join")
    wait_for_members(room_id, alice, bob, everybody=[alice, bob, *others])
    wait_for_agreement(room_id, alice, bob)
    heard(room_id, ["hello", "welcome", "and from me"], alice, bob, others[0])
    assert room_id in bob.rooms("join")
    assert_without_members(cast, guest, host)


def said(person: Person, room_id: str) -> list[Any]:
    """The newest messages that somebody is shown whose client loads members lazily."""
    room = person.sync(filter=LAZY).get("rooms", {}).get("join", {}).get(room_id, {"timeline": {"events": []}})
    return [event for event in room["timeline"]["events"] if event["type"] == "m.room.message"]


def assert_without_members(cast: Cast, guest: Server, host: Server) -> None:
    """The guest asked to be let in without the members, and asked for them afterwards."""
    came = cast.lines.passages(guest, host, cast.began)
    assert [passage.query for passage in came if "/send_join/" in passage.path] == ["omit_members=true"]
    assert any("/state_ids/" in passage.path for passage in came)

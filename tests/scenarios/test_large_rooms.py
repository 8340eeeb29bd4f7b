"""Coming into a room of many members: at once with part of its state, and with all of it soon after."""

from __future__ import annotations

from homeserver.harness.client import until
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members
from tests.scenarios.test_talking import heard

MEMBERS = 12


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
    if guest.make == "synapse":
        came = cast.lines.passages(guest, host, cast.began)
        joins = [passage.query for passage in came if "/send_join/" in passage.path]
        assert joins == ["omit_members=true"]
        until(lambda: any("/state_ids/" in p.path for p in cast.lines.passages(guest, host, cast.began)), True)
    # What it learnt late is right: a name that changed meanwhile, and who left.
    others[0].set_profile("displayname", "Zero")
    others[1].leave(room_id)
    until(lambda: (bob.content_of(room_id, "m.room.member", others[0].user_id) or {}).get("displayname"), "Zero")
    until(lambda: bob.membership_of(room_id, others[1]), "leave")
    wait_for_agreement(room_id, alice, bob, carol)

"""How people of one server come into rooms of another, and how they go."""

from __future__ import annotations

from homeserver.harness.client import until
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members


@scenario("host", "guest")
def test_join_a_public_room_by_its_alias(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    alias = alice.user_id.split(":")[0][1:]
    room_id = cast.room(alice, preset="public_chat", room_alias_name=alias, name="The pub")
    assert bob.join(f"#{alias}:{host.name}") == room_id
    wait_for_members(room_id, alice, bob)
    wait_for_agreement(room_id, alice, bob)
    bob.leave(room_id)
    until(lambda: alice.joined(room_id), {alice.user_id})
    until(lambda: room_id in bob.rooms("join"), False)

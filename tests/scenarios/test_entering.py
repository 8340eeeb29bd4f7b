"""How people of one server come into rooms of another, and how they go."""

from __future__ import annotations

from typing import Any

from homeserver.harness.client import until
from homeserver.harness.person import Person
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members


def localpart(person: Person) -> str:
    return person.user_id.split(":")[0][1:]


def invited(person: Person, room_id: str) -> None:
    until(lambda: room_id in person.rooms("invite"), True)


# -- by oneself ---------------------------------------------------------------------------------------------------


@scenario("host", "guest")
def test_join_by_alias_and_leave(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, preset="public_chat", room_alias_name=localpart(alice), name="The pub")
    assert bob.join(f"#{localpart(alice)}:{host.name}") == room_id
    assert bob.content_of(room_id, "m.room.name") == {"name": "The pub"}
    wait_for_members(room_id, alice, bob)
    wait_for_agreement(room_id, alice, bob)
    bob.leave(room_id)
    until(lambda: alice.joined(room_id), {alice.user_id})
    until(lambda: room_id in bob.rooms("join"), False)


@scenario("host", "way", "guest")
def test_join_over_a_server_that_is_only_a_member(cast: Cast) -> None:
    host, way, guest = cast
    alice, bob, carol = cast.person("alice", host), cast.person("bob", way), cast.person("carol", guest)
    room_id = cast.room(alice, preset="public_chat")
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    carol.join(room_id, via=[way])
    wait_for_members(room_id, alice, bob, carol)
    wait_for_agreement(room_id, alice, bob, carol)
    for number, person in enumerate([alice, bob, carol]):
        person.say(room_id, f"{number}")
        for reader in [alice, bob, carol]:
            until(lambda reader=reader: reader.texts(room_id), [f"{each}" for each in range(number + 1)])  # type: ignore[misc]


@scenario("host", "guest")
def test_come_back(cast: Cast) -> None:
    """After everybody of a server has left, it hears nothing more, and knows it when somebody comes again."""
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, preset="public_chat")
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    bob.leave(room_id)
    until(lambda: alice.joined(room_id), {alice.user_id})
    alice.say(room_id, "while bob was away")
    alice.set_state(room_id, "m.room.topic", {"topic": "new"})
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    wait_for_agreement(room_id, alice, bob)
    alice.say(room_id, "hello again")
    until(lambda: bob.texts(room_id)[-1:], ["hello again"])
    assert bob.content_of(room_id, "m.room.topic")["topic"] == "new"


# -- invitations --------------------------------------------------------------------------------------------------


@scenario("host", "guest")
def test_an_invitation_accepted(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, preset="private_chat", name="Private", topic="Secrets")
    alice.invite(room_id, bob)
    invited(bob, room_id)
    shown = bob.sync(timeout=0)["rooms"]["invite"][room_id]["invite_state"]["events"]
    told = {event["type"]: event["content"] for event in shown if event["type"] != "m.room.member"}
    assert told["m.room.name"] == {"name": "Private"}
    assert told["m.room.join_rules"]["join_rule"] == "invite"
    bob.join(room_id)
    wait_for_members(room_id, alice, bob)
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_an_invitation_declined_and_one_taken_back(cast: Cast) -> None:
    host, guest = cast
    alice, bob, carol = cast.person("alice", host), cast.person("bob", guest), cast.person("carol", guest)
    room_id = cast.room(alice, preset="private_chat")
    alice.invite(room_id, bob)
    alice.invite(room_id, carol)
    invited(bob, room_id)
    invited(carol, room_id)
    bob.leave(room_id)
    until(lambda: alice.membership_of(room_id, bob), "leave")
    assert room_id not in bob.rooms("invite")
    alice.kick(room_id, carol)
    until(lambda: room_id in carol.rooms("invite"), False)
    assert carol.request("POST", f"/_matrix/client/v3/join/{room_id}?via={host.name}", {}).status == 403


@scenario("host", "guest", "third")
def test_an_invitation_by_a_guest_to_a_third_server(cast: Cast) -> None:
    host, guest, third = cast
    alice, bob, carol = cast.person("alice", host), cast.person("bob", guest), cast.person("carol", third)
    room_id = cast.room(alice, preset="private_chat", invite=[bob.user_id])
    invited(bob, room_id)
    bob.join(room_id)
    wait_for_members(room_id, alice, bob)
    bob.invite(room_id, carol)
    invited(carol, room_id)
    carol.join(room_id)
    wait_for_members(room_id, alice, bob, carol)
    wait_for_agreement(room_id, alice, bob, carol)


# -- knocking -----------------------------------------------------------------------------------------------------


@scenario("host", "guest")
def test_a_knock_answered(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, initial_state=[rule({"join_rule": "knock"})], name="Club")
    bob.knock(room_id, [host], reason="please")
    until(lambda: alice.membership_of(room_id, bob), "knock")
    assert alice.content_of(room_id, "m.room.member", bob.user_id)["reason"] == "please"
    shown = bob.sync(timeout=0)["rooms"]["knock"][room_id]["knock_state"]["events"]
    assert {"name": "Club"} in [event["content"] for event in shown]
    alice.invite(room_id, bob)
    invited(bob, room_id)
    bob.join(room_id)
    wait_for_members(room_id, alice, bob)
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_a_knock_refused_and_one_taken_back(cast: Cast) -> None:
    host, guest = cast
    alice, bob, carol = cast.person("alice", host), cast.person("bob", guest), cast.person("carol", guest)
    room_id = cast.room(alice, initial_state=[rule({"join_rule": "knock"})])
    bob.knock(room_id, [host])
    carol.knock(room_id, [host])
    for person in (bob, carol):
        until(lambda person=person: alice.membership_of(room_id, person), "knock")  # type: ignore[misc]
    alice.kick(room_id, bob, "members only")
    if host.make == guest.make == "ours":  # Synapse neither tells a knocker's server of the refusal, nor heeds it
        until(lambda: room_id in bob.rooms("knock"), False)
    carol.leave(room_id)
    assert room_id not in carol.rooms("knock")
    if guest.make == "ours":  # Synapse takes a knock back on its own side only
        until(lambda: alice.membership_of(room_id, carol), "leave")
    # Who was refused may knock again.
    bob.knock(room_id, [host])
    until(lambda: alice.membership_of(room_id, bob), "knock")


# -- restricted rooms ---------------------------------------------------------------------------------------------


def rule(content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "m.room.join_rules", "state_key": "", "content": content}


def members_of(room_id: str, join_rule: str = "restricted") -> dict[str, Any]:
    return rule({"join_rule": join_rule, "allow": [{"type": "m.room_membership", "room_id": room_id}]})


@scenario("host", "guest")
def test_a_room_for_the_members_of_another(cast: Cast) -> None:
    host, guest = cast
    alice, bob, carol = cast.person("alice", host), cast.person("bob", guest), cast.person("carol", guest)
    club = cast.room(alice, preset="public_chat")
    room_id = cast.room(alice, initial_state=[members_of(club)])
    assert carol.request("POST", f"/_matrix/client/v3/join/{room_id}?via={host.name}", {}).status == 403
    bob.join(club, via=[host])
    wait_for_members(club, alice, bob)
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    wait_for_agreement(room_id, alice, bob)
    member = bob.content_of(room_id, "m.room.member", bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    # The second of that server can be let in by the first, where they may invite; and it is checked by the other side.
    carol.join(club)
    wait_for_members(club, alice, bob, carol)
    carol.join(room_id)
    wait_for_members(room_id, alice, bob, carol)
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "way", "guest")
def test_a_restricted_room_over_a_server_that_may_let_in(cast: Cast) -> None:
    host, way, guest = cast
    alice, bob, carol = cast.person("alice", host), cast.person("bob", way), cast.person("carol", guest)
    club = cast.room(alice, preset="public_chat")
    # Whoever lets somebody in must be allowed to invite, which in such a room only moderators are by default.
    room_id = cast.room(
        alice, initial_state=[members_of(club, "knock_restricted")], power_level_content_override={"invite": 0}
    )
    bob.join(club, via=[host])
    carol.join(club, via=[host])
    wait_for_members(club, alice, bob, carol)
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    # A Synapse lets nobody in as long as it does not know all members itself: then the host is asked.
    carol.join(room_id, via=[way] if way.make == "ours" else [way, host])
    wait_for_members(room_id, alice, bob, carol)
    wait_for_agreement(room_id, alice, bob, carol)
    let_in_by = carol.content_of(room_id, "m.room.member", carol.user_id)["join_authorised_via_users_server"]
    if way.make == "ours":
        assert let_in_by == bob.user_id
    else:
        assert let_in_by in (alice.user_id, bob.user_id)


# -- being thrown out ---------------------------------------------------------------------------------------------


@scenario("host", "guest")
def test_kick_and_ban(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, preset="public_chat")
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    alice.kick(room_id, bob, "too loud")
    until(lambda: room_id in bob.rooms("join"), False)
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    alice.ban(room_id, bob, "far too loud")
    until(lambda: room_id in bob.rooms("join"), False)
    assert bob.request("POST", f"/_matrix/client/v3/join/{room_id}?via={host.name}", {}).status == 403
    alice.unban(room_id, bob)
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_a_guest_may_throw_out_too(cast: Cast) -> None:
    """Somebody with the power for it kicks and bans people of the other server, and of a server that stays."""
    host, guest = cast
    alice, bob, carol, dan = (
        cast.person("alice", host),
        cast.person("bob", guest),
        cast.person("carol", host),
        cast.person("dan", host),
    )
    room_id = cast.room(alice, preset="public_chat")
    carol.join(room_id)
    dan.join(room_id)
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob, carol, dan)
    levels = alice.content_of(room_id, "m.room.power_levels")
    levels.setdefault("users", {})[bob.user_id] = 75
    alice.set_state(room_id, "m.room.power_levels", levels)
    until(lambda: bob.content_of(room_id, "m.room.power_levels")["users"].get(bob.user_id), 75)
    bob.kick(room_id, carol)
    bob.ban(room_id, dan)
    until(lambda: (alice.membership_of(room_id, carol), alice.membership_of(room_id, dan)), ("leave", "ban"))
    assert room_id not in dan.rooms("join") | carol.rooms("join")
    wait_for_agreement(room_id, alice, bob)

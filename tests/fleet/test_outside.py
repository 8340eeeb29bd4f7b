"""Invitations, knocks and their ends, where only one of two servers is in the room."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import Refused, Request
from federation.room.hashing import encode_base64
from federation.room.signing import SigningKey, sign_json
from homeserver.errors import MatrixError
from homeserver.rooms.send import Sender
from storage.events import load_by_ids
from tests.fixtures_fleet import Fleet, Member

BOB = "@bob:b.example"


def section(member: Member, name: str, kind: str, room_id: str) -> Any:
    return member.sync(name).get("rooms", {}).get(kind, {}).get(room_id)


def types_in(stripped: Any, kind: str) -> set[str]:
    return {event["type"] for event in stripped[f"{kind}_state"]["events"]}


@pytest.mark.parametrize("version", ["1", "6", "10", "11", "12"])
def test_invited_from_afar_and_joining(fleet: Fleet, version: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat", name="Attic", room_version=version)
    a.invite("alice", BOB, room_id)
    assert a.membership(BOB, room_id) == "invite"
    shown = section(b, "bob", "invite", room_id)
    assert types_in(shown, "invite") >= {"m.room.create", "m.room.join_rules", "m.room.name", "m.room.member"}
    own = [event for event in shown["invite_state"]["events"] if event.get("state_key") == BOB]
    assert [event["content"]["membership"] for event in own] == ["invite"]
    b.enter("bob", room_id)  # the invitation says whom to ask
    fleet.settle()
    assert section(b, "bob", "invite", room_id) is None
    assert a.membership(BOB, room_id) == "join" and b.state_of(room_id) == a.state_of(room_id)
    b.say("bob", room_id, "nice here")
    fleet.settle()
    assert a.texts("alice", room_id) == ["nice here"]


def test_on_both_databases(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    room_id = a.create("alice", invite=[BOB], preset="trusted_private_chat", is_direct=True)
    since = b.sync("bob")["next_batch"]
    assert section(b, "bob", "invite", room_id) is not None
    b.leave("bob", room_id)
    any_fleet.settle()
    assert a.membership(BOB, room_id) == "leave"
    left = b.sync("bob", since)["rooms"]["leave"][room_id]
    assert [event["content"]["membership"] for event in left["timeline"]["events"]] == ["leave"]
    a.invite("alice", BOB, room_id)
    b.enter("bob", room_id)
    any_fleet.settle()
    assert b.state_of(room_id) == a.state_of(room_id)


def test_an_invitation_wakes_who_waits(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    waiting = b.start_sync("bob", b.sync("bob")["next_batch"], timeout_ms=30_000)
    a.invite("alice", BOB, room_id)
    b.advance(0)
    assert room_id.encode() in b.wait(waiting)


def test_declining_where_nobody_can_be_reached(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    a.invite("alice", BOB, room_id)
    fleet.down.add(a.name)
    b.leave("bob", room_id)
    assert section(b, "bob", "invite", room_id) is None
    fleet.down.clear()
    a.invite("alice", BOB, room_id)  # asked again
    assert section(b, "bob", "invite", room_id) is not None


def test_an_invitation_is_taken_back(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    a.invite("alice", BOB, room_id)
    a.kick("alice", BOB, room_id)
    fleet.settle()
    assert section(b, "bob", "invite", room_id) is None


def test_who_can_not_be_invited(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    with pytest.raises(MatrixError) as refusal:
        a.invite("alice", "@nobody:nowhere.example", room_id)
    assert refusal.value.status == 503 and a.membership("@nobody:nowhere.example", room_id) is None
    with pytest.raises(MatrixError) as refusal:
        a.invite("mallory", BOB, room_id)
    assert refusal.value.status == 403 and fleet.asked("/invite/") == [("a.example", "nowhere.example")]
    assert section(b, "bob", "invite", room_id) is None


def test_an_invitation_that_a_client_words_itself(fleet: Fleet) -> None:
    """As a piece of state it goes the same way: the other server signs it before the room has it."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    content = {"membership": "invite", "reason": "tea", "displayname": "Bob"}

    def put(sender: str, target: str) -> str:
        return a.wait(a.house.part(Sender).state(a.user(sender), room_id, "m.room.member", target, content))

    event_id = put("alice", BOB)
    assert fleet.asked("/invite/") == [("a.example", "b.example")]
    assert a.state_of(room_id)["m.room.member", BOB] == event_id
    invited = a.wait(a.house.database.run(load_by_ids, [event_id]))[event_id].event.to_json()
    assert invited["signatures"].keys() == {"a.example", "b.example"}
    assert invited["content"] == content
    assert section(b, "bob", "invite", room_id) is not None
    assert put("alice", BOB) == event_id, "what is so already makes no new event"
    assert len(fleet.asked("/invite/")) == 1
    for sender, target, status in [("mallory", BOB, 403), ("alice", "@x:nowhere.example", 503), ("alice", "bob", 400)]:
        with pytest.raises(MatrixError) as refusal:
            put(sender, target)
        assert refusal.value.status == status
    assert fleet.asked("/invite/")[1:] == [("a.example", "nowhere.example")]
    b.enter("bob", room_id)
    with pytest.raises(MatrixError) as refusal:
        put("alice", BOB)
    assert refusal.value.status == 403, "who is in the room can't be invited"


def test_entering_through_other_servers_has_its_price(fleet: Fleet) -> None:
    (a,) = fleet.open("a")
    fleet.rate_limits = {"enabled": True, "join_remote": {"per_second": 0.001, "burst": 3}}
    (b,) = fleet.open("b")
    rooms = [a.create("alice", preset="public_chat") for _ in range(2)]
    b.enter("bob", rooms[0], via=a)
    with pytest.raises(MatrixError):
        b.knock("bob", rooms[1], via=a)
    b.enter("bob", rooms[1], via=a)
    asked = len(fleet.requests)
    for enter in (b.enter, b.knock):
        with pytest.raises(MatrixError) as refusal:
            enter("bob", "!nowhere:a.example", a)
        assert (refusal.value.status, refusal.value.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert len(fleet.requests) == asked, "nobody was troubled"
    b.enter("beth", rooms[0])  # by now b is there itself
    with pytest.raises(MatrixError) as refusal:
        b.enter("beth", "!nowhere:a.example", via=a)
    assert refusal.value.status == 404, "others pay for themselves"


def test_inviting_into_a_room_that_both_are_in(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    a.invite("alice", BOB, room_id)
    b.enter("bob", room_id)
    a.invite("alice", "@beth:b.example", room_id)
    fleet.settle()
    assert section(b, "beth", "invite", room_id) is not None
    b.enter("beth", room_id)
    fleet.settle()
    assert a.membership("@beth:b.example", room_id) == "join"


@pytest.mark.parametrize("version", ["7", "10", "12"])
def test_knocking(fleet: Fleet, version: str) -> None:
    a, b = fleet.open("a", "b")
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room_id = a.create("alice", initial_state=rules, name="Study", room_version=version)
    b.knock("bob", room_id, via=a)
    assert a.membership(BOB, room_id) == "knock"
    assert types_in(section(b, "bob", "knock", room_id), "knock") >= {"m.room.create", "m.room.name"}
    a.kick("alice", BOB, room_id)
    fleet.settle()
    assert section(b, "bob", "knock", room_id) is None
    b.knock("bob", room_id, via=a)
    b.leave("bob", room_id)
    assert a.membership(BOB, room_id) == "leave" and section(b, "bob", "knock", room_id) is None
    b.knock("bob", room_id, via=a)
    a.invite("alice", BOB, room_id)
    assert section(b, "bob", "invite", room_id) is not None and section(b, "bob", "knock", room_id) is None
    b.enter("bob", room_id)
    fleet.settle()
    assert a.membership(BOB, room_id) == "join"


def test_forgetting_what_is_over(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    a.invite("alice", BOB, room_id)
    with pytest.raises(MatrixError):
        b.wait(b.memberships.forget(room_id, BOB))
    b.leave("bob", room_id)
    b.wait(b.memberships.forget(room_id, BOB))
    a.invite("alice", BOB, room_id)
    assert section(b, "bob", "invite", room_id) is not None


@pytest.mark.parametrize("version", ["1", "10", "12"])
def test_an_address_turns_out_to_be_somebody(fleet: Fleet, version: str) -> None:
    """An identity server signs that who was invited by address is bob; bob's server asks alice's to invite him."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat", room_version=version)
    identity = SigningKey.generate("id")
    key = {"public_key": encode_base64(identity.verify_key), "key_validity_url": "https://id.example/valid"}
    invite = {"display_name": "b...@...", **key, "public_keys": [key]}
    a.set_state("alice", room_id, "m.room.third_party_invite", invite, "token")
    signed = sign_json({"mxid": BOB, "token": "token"}, "id.example", identity)

    def exchange(**changes: Any) -> Any:
        content = {"membership": "invite", "third_party_invite": {"display_name": "bob", "signed": signed}}
        body = {
            "type": "m.room.member",
            "room_id": room_id,
            "sender": "@alice:a.example",
            "state_key": BOB,
            "content": content,
            **changes,
        }
        return b.ask(a, "PUT", f"/_matrix/federation/v1/exchange_third_party_invite/{room_id}", body)

    for wrong in ({"sender": "@mallory:a.example"}, {"state_key": "@beth:b.example"}, {"type": "m.room.topic"}):
        with pytest.raises(Refused):
            exchange(**wrong)
    forged = {"display_name": "bob", "signed": {**signed, "token": "other"}}
    with pytest.raises(Refused):
        exchange(content={"membership": "invite", "third_party_invite": forged})
    assert a.membership(BOB, room_id) is None
    assert exchange() == {}
    assert a.membership(BOB, room_id) == "invite" and section(b, "bob", "invite", room_id) is not None
    b.enter("bob", room_id)
    fleet.settle()
    assert a.state_of(room_id) == b.state_of(room_id)


def test_only_who_invited_takes_an_invitation_back(fleet: Fleet) -> None:
    """Whether somebody else may, a server that is not in the room can't tell."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat", invite=["@ann:a.example"])
    a.join("ann", room_id)
    a.invite("ann", BOB, room_id)
    a.kick("alice", BOB, room_id)
    fleet.settle()
    assert section(b, "bob", "invite", room_id) is not None
    a.invite("alice", BOB, room_id)
    a.kick("alice", BOB, room_id)
    fleet.settle()
    assert section(b, "bob", "invite", room_id) is None


def test_declining_while_the_join_is_under_way(fleet: Fleet) -> None:
    """Whoever gives up waiting leaves the room that was just entered, and both servers know it."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")
    a.invite("alice", BOB, room_id)
    declined: list[Deferred[None]] = []

    def meddle(origin: str, request: Request) -> Request:
        if "/make_join/" in request.path:
            declined.append(Deferred.fromCoroutine(b.memberships.leave(room_id, BOB)))
        return request

    fleet.meddler = meddle
    b.enter("bob", room_id)
    (leaving,) = declined
    b.wait(leaving)
    fleet.settle()
    assert a.membership(BOB, room_id) == b.membership("bob", room_id) == "leave"
    assert section(b, "bob", "leave", room_id) is None and section(b, "bob", "join", room_id) is None

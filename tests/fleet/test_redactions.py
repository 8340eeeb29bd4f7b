"""Redactions between servers: applied by whom they may be, in whatever order they come."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import NotFound
from homeserver.rooms.receive.receiver import Receiver
from tests.fixtures_fleet import Fleet, Member

BOB = "@bob:b.example"


def contents(member: Member, name: str, room_id: str) -> list[Any]:
    found = member.sync(name)["rooms"]["join"][room_id]["timeline"]["events"]
    return [event["content"] for event in found if event["type"] == "m.room.message"]


def redactions(member: Member, name: str, room_id: str) -> list[str]:
    """What of them people are shown, in the timeline and one by one."""
    found = member.sync(name)["rooms"]["join"][room_id]["timeline"]["events"]
    return [event["event_id"] for event in found if event["type"] == "m.room.redaction"]


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
def test_a_redaction_reaches_the_other_server(fleet: Fleet, version: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version=version)
    b.enter("bob", room_id, via=a)
    mine = a.say("alice", room_id, "alice's own")
    theirs = b.say("bob", room_id, "bob's")
    fleet.settle()
    a.redact("alice", room_id, mine)
    a.redact("alice", room_id, theirs)
    fleet.settle()
    assert contents(b, "bob", room_id) == contents(a, "alice", room_id) == [{}, {}]
    b.house.rooms.drop(b.room(room_id))
    assert contents(b, "bob", room_id) == [{}, {}]


def test_what_may_not_be_redacted_stays(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    said = a.say("alice", room_id, "still there")
    fleet.settle()
    forged = b.make(room_id, "bob", "m.room.redaction", {}, redacts=said)
    assert a.receive(b.name, room_id, forged.raw) == ["accepted"]  # from version 3 on it may be said, and does nothing
    for _ in range(2):
        assert contents(a, "alice", room_id) == [{"body": "still there", "msgtype": "m.text"}]
        assert redactions(a, "alice", room_id) == [], "what came to nothing is nobody's business"
        a.house.rooms.drop(a.room(room_id))
    # It is a part of the room all the same, and others are given it.
    assert a.room(room_id).visible.head.extremities == (forged.event_id,)
    a.redact("alice", room_id, said)
    assert len(redactions(a, "alice", room_id)) == 1


def test_a_redaction_that_comes_first(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    said = a.say("alice", room_id, "never to be read by bob")
    a.redact("alice", room_id, said)
    redaction = a.post.waiting[b.name].pop()
    target = a.post.waiting[b.name].pop()
    # The redaction alone, with the state given on a's word: its predecessor is not to be had.
    lost = ("/get_missing_events/", "/event/")
    fleet.meddler = lambda origin, request: None if any(part in request.path for part in lost) else request
    assert b.receive(a.name, room_id, redaction.raw) == ["accepted"]
    fleet.meddler = None
    for _ in range(2):
        assert redactions(b, "bob", room_id) == []
        b.house.rooms.drop(b.room(room_id))
    assert redactions(b, "bob", room_id) == []  # and it is in memory now
    assert b.receive(a.name, room_id, target.raw) == ["accepted"]
    for _ in range(2):
        assert contents(b, "bob", room_id) == [{}]
        assert redactions(b, "bob", room_id) == [redaction.event_id]
        b.house.rooms.drop(b.room(room_id))


def test_what_is_not_here_is_redacted_when_it_comes(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    said = b.say("bob", room_id, "never to be read by alice")
    with pytest.raises(NotFound):
        b.redact("bob", room_id, "$" + "x" * 43)  # it might be anybody's, and bob has no power over those
    a.redact("alice", room_id, said)
    fleet.settle()
    assert contents(a, "alice", room_id) == contents(b, "bob", room_id) == [{}]
    a.house.rooms.drop(a.room(room_id))
    assert contents(a, "alice", room_id) == [{}]


def test_a_redaction_that_was_redacted_is_taken_as_it_is_left(fleet: Fleet) -> None:
    """In old versions it has lost what it redacts, by which it was let in: who comes later gets it so."""
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat", room_version="2")
    for member, name in ((b, "bob"), (c, "carol")):
        member.enter(name, room_id, via=a)
    fleet.settle()
    said = b.say("bob", room_id, "bob's own")
    redaction = b.redact("bob", room_id, said)
    b.post.waiting.pop(c.name)
    fleet.settle()
    a.redact("alice", room_id, redaction)
    a.post.waiting.clear()
    left = a.wait(a.house.part(Receiver).known.find(a.room(room_id), [redaction]))[redaction].event
    assert left.redacts is None
    assert c.receive(a.name, room_id, left.raw) == ["accepted"]

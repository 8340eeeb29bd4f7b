"""What hangs on events, where the events come from other servers: in any order, and long after they were said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures_fleet import Fleet, Member
from tests.fleet.test_past import read_back
from tests.relations.talk import bundle, edit, ids, react, relate, relations, threads

NEW: dict[str, Any] = {"m.new_content": {"body": "better"}}


def related(member: Member, room_id: str, parent: str, rel_type: str, name: str = "bob", **more: Any) -> Any:
    """An event of a member's that nobody has been told of."""
    content = {"body": "…", "m.relates_to": {"rel_type": rel_type, "event_id": parent}, **more}
    return member.make(room_id, name, "m.room.message", content)


def test_between_servers(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    root = a.say("alice", room_id, "a question")
    fleet.settle()
    reply = relate(b, "bob", room_id, root, "m.thread")
    fleet.settle()
    assert bundle(a, "alice", room_id, root)["m.thread"]["count"] == 1
    changed = edit(b, "bob", room_id, reply, "better")
    react(a, "alice", room_id, reply)
    fleet.settle()
    for member, name in ((a, "alice"), (b, "bob")):
        told = bundle(member, name, room_id, root)["m.thread"]
        assert told["latest_event"]["event_id"] == reply
        assert told["latest_event"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == changed
        assert len(relations(member, name, room_id, reply)["chunk"]) == 2
        assert ids(threads(member, name, room_id)) == [root]
    b.redact("bob", room_id, reply)
    fleet.settle()
    for member, name in ((a, "alice"), (b, "bob")):
        assert bundle(member, name, room_id, root) == {}
        assert threads(member, name, room_id)["chunk"] == []


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_in_any_order(fleet: Fleet, order: tuple[int, ...]) -> None:
    """Also before what they hang on."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    root = b.make(room_id, "bob", "m.room.message", {"msgtype": "m.text", "body": "a question"})
    events = [
        root,
        related(b, room_id, root.event_id, "m.thread"),
        related(b, room_id, root.event_id, "m.reference"),
        related(b, room_id, root.event_id, "m.replace", **NEW),
    ]
    for number in order:
        assert a.receive(b.name, room_id, events[number].raw) == ["accepted"]
    told = bundle(a, "alice", room_id, root.event_id)
    assert told["m.thread"]["latest_event"]["event_id"] == events[1].event_id
    assert told["m.reference"] == {"chunk": [{"event_id": events[2].event_id}]}
    assert told["m.replace"]["event_id"] == events[3].event_id


def test_lies_of_a_peer_count_for_nothing(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    other = b.create("bob", preset="public_chat")
    a.enter("alice", other, via=b)
    fleet.settle()
    root = a.say("alice", room_id, "a question")
    assert a.receive(b.name, room_id, related(b, room_id, root, "m.replace", **NEW).raw) == ["accepted"]
    for rel_type in ("m.thread", "m.reference"):
        assert a.receive(b.name, other, related(b, other, root, rel_type).raw) == ["accepted"]
    assert bundle(a, "alice", room_id, root) == {}
    assert threads(a, "alice", room_id)["chunk"] == []
    assert threads(a, "alice", other)["chunk"] == []
    assert len(relations(a, "alice", room_id, root)["chunk"]) == 1


def test_of_what_was_said_before_one_came(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    root = a.say("alice", room_id, "a question")
    replies = [relate(a, "alice", room_id, root, "m.thread") for _ in range(3)]
    changed = edit(a, "alice", room_id, root, "a better question")
    a.redact("alice", room_id, replies.pop())
    b.enter("bob", room_id, via=a)
    late = relate(a, "alice", room_id, root, "m.thread")
    fleet.settle()
    read_back(b, "bob", room_id)
    told = bundle(b, "bob", room_id, root)
    assert (told["m.thread"]["count"], told["m.thread"]["latest_event"]["event_id"]) == (3, late)
    assert told["m.replace"]["event_id"] == changed
    assert ids(relations(b, "bob", room_id, root, "m.thread")) == [late, *replies[::-1]]

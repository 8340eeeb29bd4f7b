"""What clients say in forms of their own goes through as it is: polls, places, voices; and edits are kept."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import Forbidden
from tests.fixtures_fleet import Fleet
from tests.fixtures_house import LivedInHouse
from tests.relations.talk import edit, event, messages, relations, send

VOICE: dict[str, Any] = {
    "msgtype": "m.audio",
    "body": "Voice message",
    "url": "mxc://elsewhere.example/voice",
    "info": {"mimetype": "audio/ogg", "size": 5, "duration": 1000},
    "org.matrix.msc1767.audio": {"duration": 1000, "waveform": [0, 512, 1024]},
    "org.matrix.msc3245.voice": {},
}
PLACE: dict[str, Any] = {
    "msgtype": "m.location",
    "body": "at the lake",
    "geo_uri": "geo:51.5008,0.1247;u=35",
    "org.matrix.msc3488.location": {"uri": "geo:51.5008,0.1247;u=35", "description": "the lake"},
    "org.matrix.msc3488.asset": {"type": "m.self"},
    "org.matrix.msc3488.ts": 1_700_000_000_000,
}
POLL: dict[str, Any] = {
    "org.matrix.msc3381.poll.start": {
        "question": {"org.matrix.msc1767.text": "Where to?"},
        "kind": "org.matrix.msc3381.poll.disclosed",
        "max_selections": 1,
        "answers": [{"id": "a", "org.matrix.msc1767.text": "The lake"}, {"id": "b", "org.matrix.msc1767.text": "Home"}],
    },
    "org.matrix.msc1767.text": "Where to? 1. The lake 2. Home",
}
BEACON: dict[str, Any] = {"timeout": 600_000, "live": True, "org.matrix.msc3488.asset": {"type": "m.self"}}


def answer_to(poll: str, choice: str) -> dict[str, Any]:
    return {
        "m.relates_to": {"rel_type": "m.reference", "event_id": poll},
        "org.matrix.msc3381.poll.response": {"answers": [choice]},
    }


@pytest.mark.parametrize(
    ("event_type", "content"),
    [
        ("m.room.message", VOICE),
        ("m.room.message", PLACE),
        ("org.matrix.msc3381.poll.start", POLL),
        ("m.poll.start", {"m.poll": POLL["org.matrix.msc3381.poll.start"]}),
        ("org.example.of-its-own", {"deep": [{"a": None}, [], "\u2028 é 👍", 2**53 - 1, -(2**53) + 1, False]}),
    ],
)
def test_as_it_was_said(fleet: Fleet, event_type: str, content: dict[str, Any]) -> None:
    """Read by the server's own people and by those of another, in every way."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    said = send(a, "alice", room_id, content, event_type)
    fleet.settle()
    for member, name in ((a, "alice"), (b, "bob")):
        assert event(member, name, room_id, said)["content"] == content
        timeline = member.sync(name)["rooms"]["join"][room_id]["timeline"]["events"]
        assert [one["content"] for one in timeline if one["event_id"] == said] == [content]
        paged = messages(member, name, room_id)["chunk"]
        assert [one["content"] for one in paged if one["event_id"] == said] == [content]


def test_a_poll(house: LivedInHouse) -> None:
    """Its answers are found under it, whoever comes later."""
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    poll = send(house, "alice", room_id, POLL, "org.matrix.msc3381.poll.start")
    answers = [
        send(house, name, room_id, answer_to(poll, choice), "org.matrix.msc3381.poll.response")
        for name, choice in (("alice", "a"), ("bob", "b"), ("bob", "a"))
    ]
    end = {"m.relates_to": {"rel_type": "m.reference", "event_id": poll}, "org.matrix.msc3381.poll.end": {}}
    answers.append(send(house, "alice", room_id, end, "org.matrix.msc3381.poll.end"))
    found = relations(house, "bob", room_id, poll, rel_type="m.reference")["chunk"]
    assert [one["event_id"] for one in found] == answers[::-1]


def test_what_is_shown_where_people_are(house: LivedInHouse) -> None:
    """A live place is state under one's own name, which nobody else may set."""
    room_id = house.create("alice", preset="public_chat", power_level_content_override={"state_default": 0})
    house.join("bob", room_id)
    house.set_state("bob", room_id, "org.matrix.msc3672.beacon_info", BEACON, house.user("bob"))
    with pytest.raises(Forbidden):
        house.set_state("alice", room_id, "org.matrix.msc3672.beacon_info", BEACON, house.user("bob"))
    house.set_state("alice", room_id, "m.room.pinned_events", {"pinned": ["$of-somewhere"]})
    state = house.sync("bob")["rooms"]["join"][room_id]
    told = [*state["state"]["events"], *state["timeline"]["events"]]
    assert {"pinned": ["$of-somewhere"]} in [one["content"] for one in told if one["type"] == "m.room.pinned_events"]


def test_every_edit_is_kept(house: LivedInHouse) -> None:
    """The history of a message: what it was at first, and each edit."""
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    said = send(house, "alice", room_id, {"msgtype": "m.text", "body": "first"})
    edits = [edit(house, "alice", room_id, said, text) for text in ("second", "third")]
    found = relations(house, "bob", room_id, said, rel_type="m.replace")["chunk"]
    assert [one["event_id"] for one in found] == edits[::-1]
    assert [one["content"]["m.new_content"]["body"] for one in found] == ["third", "second"]
    assert event(house, "bob", room_id, said)["content"]["body"] == "first"
    house.redact("alice", room_id, edits[0])
    assert [one["event_id"] for one in relations(house, "bob", room_id, said, rel_type="m.replace")["chunk"]] == edits[
        1:
    ]

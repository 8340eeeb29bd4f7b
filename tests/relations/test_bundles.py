"""What goes with an event to clients: its newest edit, its thread, what refers to it; of what they may see."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.rooms.compose import Template
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.send import Sender
from tests.fixtures_house import LivedInHouse
from tests.relations.talk import (
    bundle,
    context,
    edit,
    event,
    ids,
    ignore,
    messages,
    react,
    relate,
    relations,
    send,
    threads,
)

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PEOPLE = ("bob", "carol", "dave")


def room(house: LivedInHouse, **body: Any) -> str:
    room_id = house.create("alice", preset="public_chat", **body)
    for name in PEOPLE:
        house.join(name, room_id)
    return room_id


def live(house: LivedInHouse, room_id: str) -> LiveRoom:
    return house.wait(house.house.rooms.require(room_id))


def forget(house: LivedInHouse, room_id: str) -> None:
    """Have the database asked, instead of memory."""
    live(house, room_id).past_changed()


def test_the_newest_edit(house: LivedInHouse) -> None:
    room_id = room(house)
    said = house.say("alice", room_id, "helo")
    assert bundle(house, "bob", room_id, said) == {}
    first = edit(house, "alice", room_id, said, "hello")
    second = edit(house, "alice", room_id, said, "hello!")
    for _ in range(2):
        told = bundle(house, "bob", room_id, said)["m.replace"]
        assert told["event_id"] == second
        assert told["content"]["m.new_content"]["body"] == "hello!"
        assert told["sender"] == house.user("alice") and told["room_id"] == room_id
        assert event(house, "bob", room_id, said)["content"]["body"] == "helo"
        forget(house, room_id)
    house.redact("alice", room_id, second)
    assert bundle(house, "bob", room_id, said)["m.replace"]["event_id"] == first
    house.redact("alice", room_id, said)
    for _ in range(2):
        assert bundle(house, "bob", room_id, said) == {}
        forget(house, room_id)


def test_what_is_no_edit(house: LivedInHouse) -> None:
    """Not of others' messages, not of another type, of an edit, of state, or without something new."""
    room_id = room(house)
    said = house.say("alice", room_id, "hello")
    topic = house.set_state("alice", room_id, "m.room.topic", {"topic": "x"})
    other_room = house.create("alice", preset="public_chat")
    new: dict[str, Any] = {"m.new_content": {"msgtype": "m.text", "body": "bye"}}
    relation = {"m.relates_to": {"rel_type": "m.replace", "event_id": said}}
    for warm in (True, False):
        assert bundle(house, "alice", room_id, said) == {}
        edit(house, "bob", room_id, said, "not mine")
        relate(house, "alice", room_id, said, "m.replace", "org.example.other", **new)
        relate(house, "alice", room_id, said, "m.replace")
        relate(house, "alice", room_id, said, "m.replace", **{"m.new_content": "text"})
        edit(house, "alice", room_id, topic, "state")
        edit(house, "alice", other_room, said, "from elsewhere")
        house.set_state("alice", room_id, "m.room.message", {**relation, **new}, key=str(warm))
        if not warm:
            forget(house, room_id)
        assert bundle(house, "alice", room_id, said) == {}
        assert bundle(house, "alice", room_id, topic) == {}
    good = edit(house, "alice", room_id, said, "hello!")
    edit(house, "alice", room_id, good, "an edit of an edit")
    assert bundle(house, "alice", room_id, good) == {}
    assert bundle(house, "alice", room_id, said)["m.replace"]["event_id"] == good


def test_an_edit_of_something_encrypted(house: LivedInHouse) -> None:
    room_id = room(house)
    said = send(house, "alice", room_id, {"ciphertext": "x"}, "m.room.encrypted")
    changed = relate(house, "alice", room_id, said, "m.replace", "m.room.encrypted")
    assert bundle(house, "bob", room_id, said)["m.replace"]["event_id"] == changed


def test_a_thread(house: LivedInHouse) -> None:
    room_id = room(house)
    root = house.say("alice", room_id, "a question")
    first = relate(house, "bob", room_id, root, "m.thread")
    for expected in (1, 2, 3):
        told = bundle(house, "carol", room_id, root)["m.thread"]
        assert told["count"] == expected
        assert told["current_user_participated"] is (expected > 2)
        latest = relate(house, "carol" if expected > 1 else "bob", room_id, root, "m.thread")
    told = bundle(house, "carol", room_id, root)["m.thread"]
    assert (told["count"], told["latest_event"]["event_id"]) == (4, latest)
    assert told["latest_event"]["unsigned"]["transaction_id"]
    forget(house, room_id)
    told = bundle(house, "dave", room_id, root)["m.thread"]
    assert (told["count"], told["latest_event"]["event_id"]) == (4, latest)
    assert not told["current_user_participated"]
    assert "transaction_id" not in told["latest_event"]["unsigned"]
    assert bundle(house, "alice", room_id, root)["m.thread"]["current_user_participated"]  # who began it
    house.redact("carol", room_id, latest)
    told = bundle(house, "bob", room_id, root)["m.thread"]
    assert told["count"] == 3 and told["latest_event"]["event_id"] != latest
    house.redact("alice", room_id, root)
    assert bundle(house, "bob", room_id, root)["m.thread"]["count"] == 3
    for event_id in (first, *ids(relations(house, "bob", room_id, root))):
        if event(house, "bob", room_id, event_id)["content"]:
            house.redact("alice", room_id, event_id)
    assert bundle(house, "bob", room_id, root) == {}


def test_the_newest_of_a_thread_has_its_own(house: LivedInHouse) -> None:
    room_id = room(house)
    root = house.say("alice", room_id, "a question")
    reply = relate(house, "bob", room_id, root, "m.thread")
    for warm in (False, True):
        changed = edit(house, "bob", room_id, reply, f"better {warm}")
        latest = bundle(house, "carol", room_id, root)["m.thread"]["latest_event"]
        assert latest["unsigned"]["m.relations"]["m.replace"]["event_id"] == changed


def test_no_threads_on_threads_from_elsewhere(house: LivedInHouse) -> None:
    """Another server may send what this one refuses to its own."""
    room_id = room(house)
    root = house.say("alice", room_id, "a question")
    reply = relate(house, "bob", room_id, root, "m.thread")
    content = {"body": "…", "m.relates_to": {"rel_type": "m.thread", "event_id": reply}}
    house.wait(house.house.part(Sender).door.send(room_id, [Template("m.room.message", house.user("carol"), content)]))
    assert bundle(house, "bob", room_id, reply) == {}
    assert ids(threads(house, "bob", room_id)) == [root]


def test_references(house: LivedInHouse) -> None:
    room_id = room(house)
    poll = send(house, "alice", room_id, {"org.matrix.msc3381.poll.start": {}}, "org.matrix.msc3381.poll.start")
    votes = []
    for name in PEOPLE:
        votes.append(relate(house, name, room_id, poll, "m.reference", "org.matrix.msc3381.poll.response"))
        assert bundle(house, "bob", room_id, poll) == {"m.reference": {"chunk": [{"event_id": one} for one in votes]}}
    forget(house, room_id)
    assert bundle(house, "bob", room_id, poll) == {"m.reference": {"chunk": [{"event_id": one} for one in votes]}}
    house.redact("carol", room_id, votes.pop(1))
    assert bundle(house, "bob", room_id, poll) == {"m.reference": {"chunk": [{"event_id": one} for one in votes]}}


def test_reactions_are_not_counted_here(house: LivedInHouse) -> None:
    room_id = room(house)
    said = house.say("alice", room_id, "hello")
    react(house, "bob", room_id, said)
    assert bundle(house, "bob", room_id, said) == {}


def test_the_ignored_do_not_count(house: LivedInHouse) -> None:
    room_id = room(house)
    root = house.say("alice", room_id, "a question")
    kept = relate(house, "bob", room_id, root, "m.thread")
    relate(house, "carol", room_id, root, "m.thread")
    relate(house, "bob", room_id, root, "m.reference")
    relate(house, "carol", room_id, root, "m.reference")
    edit(house, "alice", room_id, root, "a better question")
    assert bundle(house, "dave", room_id, root)["m.thread"]["count"] == 2
    ignore(house, "dave", "carol")
    told = bundle(house, "dave", room_id, root)
    assert (told["m.thread"]["count"], told["m.thread"]["latest_event"]["event_id"]) == (1, kept)
    assert len(told["m.reference"]["chunk"]) == 1
    ignore(house, "dave", "carol", "bob", "alice")
    assert bundle(house, "dave", room_id, root) == {}
    assert threads(house, "dave", room_id)["chunk"] == []
    ignore(house, "dave", "alice")
    (shown,) = threads(house, "dave", room_id)["chunk"]
    assert shown["content"] == {} and shown["unsigned"]["m.relations"]["m.thread"]["count"] == 2
    assert "m.replace" not in shown["unsigned"]["m.relations"]
    ignore(house, "dave")
    assert bundle(house, "dave", room_id, root)["m.thread"]["count"] == 2


@pytest.mark.parametrize("visibility", ["shared", "joined"])
def test_what_is_not_seen_does_not_count(house: LivedInHouse, visibility: str) -> None:
    setting = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
    room_id = room(house, initial_state=[setting])
    root = house.say("alice", room_id, "a question")
    early = relate(house, "alice", room_id, root, "m.thread")
    first = edit(house, "alice", room_id, root, "version 2")
    house.leave("bob", room_id)
    relate(house, "alice", room_id, root, "m.thread")
    relate(house, "alice", room_id, root, "m.reference")
    edit(house, "alice", room_id, root, "version 3")
    for again in (False, True):
        told = bundle(house, "bob", room_id, root)
        if again and visibility == "shared":
            assert told["m.thread"]["count"] == 2 and "m.reference" in told
        else:
            assert told["m.replace"]["event_id"] == first
            assert (told["m.thread"]["count"], told["m.thread"]["latest_event"]["event_id"]) == (1, early)
            assert "m.reference" not in told
        if not again:
            house.join("bob", room_id)
    # What closes a room later has no effect on who was there.
    assert bundle(house, "carol", room_id, root)["m.thread"]["count"] == 2


def test_a_room_that_closes(house: LivedInHouse) -> None:
    """Whether a reader sees everything is looked up again once that changes."""
    room_id = room(house)
    root = house.say("alice", room_id, "a question")
    relate(house, "carol", room_id, root, "m.thread")
    assert bundle(house, "bob", room_id, root)["m.thread"]["count"] == 1
    assert live(house, room_id).always_open
    house.set_state("alice", room_id, "m.room.history_visibility", {"history_visibility": "joined"})
    house.leave("bob", room_id)
    relate(house, "carol", room_id, root, "m.thread")
    house.join("bob", room_id)
    relate(house, "carol", room_id, root, "m.thread")
    assert bundle(house, "bob", room_id, root)["m.thread"]["count"] == 2
    assert bundle(house, "dave", room_id, root)["m.thread"]["count"] == 3


def test_everywhere_the_specification_wants_them(house: LivedInHouse) -> None:
    room_id = room(house)
    root = house.say("alice", room_id, "a question")
    since = house.sync("bob")["next_batch"]
    latest = relate(house, "carol", room_id, root, "m.thread")
    edited = edit(house, "alice", room_id, root, "a better question")

    def check(shown: Any, is_there: bool = True) -> None:
        (one,) = [one for one in shown if one["event_id"] == root]
        told = one["unsigned"].get("m.relations", {})
        assert set(told) == ({"m.replace", "m.thread"} if is_there else set())
        if is_there:
            assert told["m.replace"]["event_id"] == edited
            assert told["m.thread"]["latest_event"]["event_id"] == latest
            assert ("room_id" in told["m.replace"]) == ("room_id" in one)

    check(messages(house, "bob", room_id)["chunk"])
    check([context(house, "bob", room_id, root)["event"]])
    check(context(house, "bob", room_id, latest)["events_before"])
    check(threads(house, "bob", room_id)["chunk"])
    check(house.sync("bob")["rooms"]["join"][room_id]["timeline"]["events"])
    referred = relate(house, "carol", room_id, root, "m.reference")
    deeper = relate(house, "bob", room_id, referred, "m.reference")
    (listed,) = relations(house, "bob", room_id, root, "m.reference")["chunk"]
    assert listed["unsigned"]["m.relations"] == {"m.reference": {"chunk": [{"event_id": deeper}]}}
    limited = house.sync("bob", since, filter={"room": {"timeline": {"limit": 1}}})["rooms"]["join"][room_id]
    assert limited["timeline"]["limited"]
    whole = house.sync("bob", since, filter={"room": {"timeline": {"limit": 50}}})["rooms"]["join"][room_id]
    assert not whole["timeline"]["limited"]
    assert all("m.relations" not in one["unsigned"] for one in whole["timeline"]["events"])


def test_a_limited_timeline_is_shared_but_for_what_is_ones_own(house: LivedInHouse) -> None:
    room_id = room(house)
    since = house.sync("bob")["next_batch"]
    for number in range(3):
        house.say("alice", room_id, f"{number}")
    root = house.say("alice", room_id, "a question")
    relate(house, "bob", room_id, root, "m.thread")
    manner = {"room": {"timeline": {"limit": 2}}}
    for name, took_part in (("carol", False), ("dave", False), ("bob", True), ("alice", True), ("carol", False)):
        timeline = house.sync(name, since, filter=manner)["rooms"]["join"][room_id]["timeline"]
        assert timeline["limited"]
        told = timeline["events"][0]["unsigned"]["m.relations"]["m.thread"]
        assert told["current_user_participated"] is took_part
        assert ("transaction_id" in told["latest_event"]["unsigned"]) is (name == "bob")
    assert live(house, room_id).shared_sections
    house.redact("alice", room_id, ids(relations(house, "alice", room_id, root))[0])
    timeline = house.sync("carol", since, filter=manner)["rooms"]["join"][room_id]["timeline"]
    assert all("m.relations" not in one["unsigned"] for one in timeline["events"])


def test_nothing_is_read_twice(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked up is kept up to date by what is said afterwards."""
    room_id = room(house)
    root = house.say("alice", room_id, "a question")
    messages(house, "bob", room_id)
    asked: list[str] = []
    database = house.house.database
    original = database.run

    def run(function: Any, *args: Any, **options: Any) -> Any:
        asked.append(function.__name__)
        return original(function, *args, **options)

    monkeypatch.setattr(database, "run", run)
    for _ in range(3):
        relate(house, "carol", room_id, root, "m.thread")
    last = edit(house, "alice", room_id, root, "better")
    (shown,) = [one for one in messages(house, "bob", room_id)["chunk"] if one["event_id"] == root]
    told = shown["unsigned"]["m.relations"]
    assert told["m.thread"]["count"] == 3
    assert told["m.replace"]["event_id"] == last
    assert "_read" not in asked

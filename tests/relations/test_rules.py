"""What this server's people may not say of other events."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from homeserver.errors import Forbidden, MatrixError
from homeserver.rooms.send import Sender
from tests.fixtures_house import LivedInHouse
from tests.relations.talk import edit, react, relate, send

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def refused(house: LivedInHouse, *what: Any, errcode: str = "M_DUPLICATE_ANNOTATION", **more: Any) -> None:
    with pytest.raises(MatrixError) as caught:
        relate(house, *what, **more) if "rel_type" in more else react(house, *what)
    assert (caught.value.status, caught.value.errcode) == (400, errcode)


def test_nobody_says_the_same_of_an_event_twice(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    said, other = house.say("alice", room_id, "hello"), house.say("alice", room_id, "again")
    first = react(house, "alice", room_id, said)
    refused(house, "alice", room_id, said)
    react(house, "alice", room_id, said, "👎")
    react(house, "alice", room_id, other)
    react(house, "bob", room_id, said)
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "👍"}}
    send(house, "alice", room_id, content, "org.example.other")
    house.redact("alice", room_id, first)
    react(house, "alice", room_id, said)
    refused(house, "alice", room_id, said)


def test_not_even_at_once(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    said = house.say("alice", room_id, "hello")
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "👍"}}
    outcomes: list[Any] = []
    for number in range(5):
        sending = house.house.part(Sender).message(house.who("alice"), room_id, "m.reaction", content, f"{number}")
        Deferred.fromCoroutine(sending).addBoth(outcomes.append)
    house.wait(house.house.database.write(lambda cursor: None))
    while len(outcomes) < 5:
        house.wait(house.house.database.run(lambda cursor: None))
    assert sum(isinstance(one, str) for one in outcomes) == 1


def test_a_repeated_request_is_no_second_annotation(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": house.say("alice", room_id, "x"), "key": "👍"}}
    sender, who = house.house.part(Sender), house.who("alice")
    first = house.wait(sender.message(who, room_id, "m.reaction", content, "t"))
    assert house.wait(sender.message(who, room_id, "m.reaction", content, "t")) == first


def test_where_threads_begin(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    root = house.say("alice", room_id, "hello")
    reply = relate(house, "alice", room_id, root, "m.thread")
    changed = edit(house, "alice", room_id, root, "hello!")
    for parent in (reply, changed, react(house, "alice", room_id, root)):
        refused(house, "alice", room_id, parent, rel_type="m.thread", errcode="M_UNKNOWN")
    elsewhere = house.create("alice", preset="public_chat")
    for _ in range(2):
        refused(house, "alice", elsewhere, root, rel_type="m.thread", errcode="M_UNKNOWN")
        relate(house, "alice", room_id, root, "m.thread")
    # A reply is no relation of that kind.
    answer = {"body": "yes", "m.relates_to": {"m.in_reply_to": {"event_id": root}}}
    relate(house, "alice", room_id, send(house, "alice", room_id, answer), "m.thread")
    relate(house, "alice", room_id, "$" + "x" * 43, "m.thread")  # others may know it


@on_sqlite
def test_outsiders_learn_nothing(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    root = house.say("alice", room_id, "hello")
    reply = relate(house, "alice", room_id, root, "m.thread")
    for parent in (root, reply, "$" + "x" * 43):
        with pytest.raises(Forbidden):
            relate(house, "bob", room_id, parent, "m.thread")
        with pytest.raises(Forbidden):
            react(house, "bob", room_id, parent)


@on_sqlite
@pytest.mark.parametrize(
    "relates",
    [None, [], "x", {}, {"rel_type": 1, "event_id": "$x"}, {"rel_type": "m.thread", "event_id": 1},
     {"rel_type": "m.thread", "event_id": "nope"}, {"rel_type": "", "event_id": "$x"}, {"rel_type": "m.annotation"},
     {"rel_type": "m.annotation", "event_id": "$x", "key": 5}, {"rel_type": "m.thread", "event_id": "$\x00"}],
)  # fmt: skip
def test_what_is_no_relation_is_sent_as_it_is(house: LivedInHouse, relates: Any) -> None:
    room_id = house.create("alice")
    for _ in range(2):
        send(house, "alice", room_id, {"body": "x", "m.relates_to": relates})

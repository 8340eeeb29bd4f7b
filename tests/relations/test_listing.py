"""Lists of what hangs on an event: pages, kinds, depth, order, versions; and the threads of a room."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.relations import listing
from homeserver.relations import threads as thread_list
from homeserver.relations.listing import Relations
from tests.fixtures_house import LivedInHouse
from tests.relations.talk import edit, ids, ignore, messages, react, relate, relations, threads

PEOPLE = ("bob", "carol")


def room(house: LivedInHouse, **body: Any) -> str:
    room_id = house.create("alice", preset="public_chat", **body)
    for name in PEOPLE:
        house.join(name, room_id)
    return room_id


def walk(house: LivedInHouse, name: str, room_id: str, event_id: str, **query: Any) -> tuple[list[str], int]:
    """All event ids in the order of reading, and how many pages they took."""
    found: list[str] = []
    pages = 0
    while True:
        page = relations(house, name, room_id, event_id, **query)
        pages += 1
        found += ids(page)
        if "next_batch" not in page:
            return found, pages
        query["from_"] = page["next_batch"]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
@pytest.mark.parametrize("recurse", [False, True])
def test_every_one_comes_once_in_both_directions(house: LivedInHouse, limit: int, recurse: bool) -> None:
    room_id = room(house)
    said = house.say("alice", room_id, "hello")
    kinds = ("m.thread", "m.reference", "m.thread", "m.reference", "m.reference", "m.thread", "m.thread")
    under = [relate(house, "bob", room_id, said, kind) for kind in kinds]
    backwards, pages = walk(house, "carol", room_id, said, limit=limit, recurse=recurse)
    forwards, _ = walk(house, "carol", room_id, said, limit=limit, recurse=recurse, dir="f")
    assert (forwards, backwards) == (under, under[::-1])
    assert pages == -(-len(under) // limit)


def test_by_kind_and_type(house: LivedInHouse) -> None:
    room_id = room(house)
    said = house.say("alice", room_id, "hello")
    reference = relate(house, "bob", room_id, said, "m.reference")
    other = relate(house, "bob", room_id, said, "m.reference", "org.example.other")
    reaction = react(house, "bob", room_id, said)
    own = relate(house, "bob", room_id, said, "org.example.own")
    assert ids(relations(house, "alice", room_id, said)) == [own, reaction, other, reference]
    assert ids(relations(house, "alice", room_id, said, "m.reference")) == [other, reference]
    assert ids(relations(house, "alice", room_id, said, "m.reference", event_type="m.room.message")) == [reference]
    assert ids(relations(house, "alice", room_id, said, "m.annotation")) == [reaction]
    assert ids(relations(house, "alice", room_id, said, "org.example.own")) == [own]
    assert ids(relations(house, "alice", room_id, said, "org.example.never")) == []
    assert ids(relations(house, "alice", room_id, said, "m.reference", event_type="org.example.never")) == []


def test_three_steps_down(house: LivedInHouse) -> None:
    room_id = room(house)
    root = house.say("alice", room_id, "hello")
    one = relate(house, "bob", room_id, root, "m.thread")
    two = edit(house, "bob", room_id, one, "better")
    three = relate(house, "alice", room_id, two, "m.reference")
    relate(house, "alice", room_id, three, "m.reference")
    reaction = react(house, "alice", room_id, one)
    direct = relations(house, "alice", room_id, root, recurse=False)
    assert (ids(direct), direct["recursion_depth"]) == ([one], 1)
    assert "recursion_depth" not in relations(house, "alice", room_id, root)
    deep = relations(house, "alice", room_id, root, recurse=True)
    assert (ids(deep), deep["recursion_depth"]) == ([reaction, three, two, one], 3)
    # What hangs on something that is not asked for is not reached.
    assert ids(relations(house, "alice", room_id, root, "m.reference", recurse=True)) == []
    assert ids(relations(house, "alice", room_id, root, "m.thread", recurse=True)) == [one]


def test_tokens_are_those_of_the_room(house: LivedInHouse) -> None:
    room_id = room(house)
    said = house.say("alice", room_id, "hello")
    under = [relate(house, "bob", room_id, said, "m.reference") for _ in range(2)]
    since = house.sync("alice")["next_batch"]
    page = messages(house, "alice", room_id, limit=1)
    under += [relate(house, "bob", room_id, said, "m.reference") for _ in range(2)]
    for token in (since, page["start"]):
        assert ids(relations(house, "alice", room_id, said, from_=token)) == under[1::-1]
        assert ids(relations(house, "alice", room_id, said, to=token)) == under[:1:-1]
        assert ids(relations(house, "alice", room_id, said, from_=token, dir="f")) == under[2:]
    first = relations(house, "alice", room_id, said, limit=1)
    assert "prev_batch" not in first
    second = relations(house, "alice", room_id, said, limit=1, from_=first["next_batch"])
    assert ids(second) == [under[2]]
    assert ids(relations(house, "alice", room_id, said, dir="f", from_=second["prev_batch"])) == [under[3]]
    assert ids(messages(house, "alice", room_id, limit=1, **{"from_": second["next_batch"]})) == [under[1]]
    wrongs: list[dict[str, Any]] = [{"from_": "x"}, {"to": "t1_"}, {"limit": -1}]
    for wrong in wrongs:
        with pytest.raises(InvalidParam):
            relations(house, "alice", room_id, said, **wrong)
    nothing = relations(house, "alice", room_id, said, limit=0)
    assert nothing == {"chunk": []}


def test_what_is_not_seen_is_not_listed(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_SCANNED", 4)
    setting = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = room(house, initial_state=[setting])
    said = house.say("alice", room_id, "hello")
    early = relate(house, "alice", room_id, said, "m.reference")
    house.leave("bob", room_id)
    hidden = [relate(house, "alice", room_id, said, "m.reference") for _ in range(9)]
    assert walk(house, "bob", room_id, said, limit=2)[0] == [early]
    house.join("bob", room_id)
    late = relate(house, "alice", room_id, said, "m.reference")
    found, pages = walk(house, "bob", room_id, said, limit=2)
    assert found == [late, early] and pages < len(hidden)
    with pytest.raises(NotFound):
        relations(house, "bob", room_id, hidden[0])
    with pytest.raises(NotFound):
        relations(house, "dave", room_id, said)
    with pytest.raises(NotFound):
        relations(house, "alice", house.create("alice"), said)
    ignore(house, "carol", "alice")
    assert ids(relations(house, "carol", room_id, said)) == []


def test_all_versions(house: LivedInHouse) -> None:
    room_id = room(house)
    said = house.say("alice", room_id, "1")
    edits = [edit(house, "alice", room_id, said, f"{number}") for number in range(2, 5)]
    edit(house, "bob", room_id, said, "not mine")
    house.redact("alice", room_id, edits.pop(1))
    found = house.wait(house.house.part(Relations).versions(room_id, house.user("bob"), said))
    assert [stored.event.event_id for stored in found] == [said, *edits]
    with pytest.raises(NotFound):
        house.wait(house.house.part(Relations).versions(room_id, house.user("dave"), said))


def test_relation_filters_of_messages(house: LivedInHouse) -> None:
    """COMPAT matrix-js-sdk: where it knows no list of threads, it filters the timeline for their roots."""
    room_id = room(house)
    one, two = house.say("alice", room_id, "1"), house.say("alice", room_id, "2")
    relate(house, "bob", room_id, one, "m.thread")
    relate(house, "carol", room_id, two, "m.thread")
    react(house, "carol", room_id, one)
    threads_only = '{"related_by_rel_types":["m.thread"]}'
    assert ids(messages(house, "alice", room_id, filter=threads_only)) == [two, one]
    bobs = json.dumps({"related_by_rel_types": ["m.thread"], "related_by_senders": [house.user("bob")]})
    assert ids(messages(house, "alice", room_id, filter=bobs)) == [one]
    assert ids(messages(house, "alice", room_id, filter='{"related_by_rel_types":["m.x"]}')) == []


# -- threads -----------------------------------------------------------------------------------------------------


def test_threads_by_what_was_said_last(house: LivedInHouse) -> None:
    room_id = room(house)
    roots = [house.say("alice", room_id, f"{number}") for number in range(5)]
    for number in (0, 1, 2, 3, 4, 1, 0):
        relate(house, "bob" if number % 2 else "carol", room_id, roots[number], "m.thread")
    order = [roots[number] for number in (0, 1, 4, 3, 2)]
    found = threads(house, "alice", room_id)
    assert ids(found) == order and "next_batch" not in found
    assert all(one["unsigned"]["m.relations"]["m.thread"]["count"] for one in found["chunk"])
    for limit in (1, 2, 4):
        seen: list[str] = []
        token: str | None = None
        pages = 0
        while True:
            page = threads(house, "alice", room_id, limit=limit, from_=token)
            seen += ids(page)
            pages += 1
            token = page.get("next_batch")
            if token is None:
                break
        assert seen == order and pages == -(-len(order) // limit)


def test_threads_that_one_took_part_in(house: LivedInHouse) -> None:
    room_id = room(house)
    mine = house.say("bob", room_id, "mine")
    spoken = house.say("alice", room_id, "spoken in")
    other = house.say("alice", room_id, "other")
    relate(house, "carol", room_id, mine, "m.thread")
    said = relate(house, "bob", room_id, spoken, "m.thread")
    relate(house, "carol", room_id, spoken, "m.thread")
    relate(house, "carol", room_id, other, "m.thread")
    assert ids(threads(house, "bob", room_id)) == [other, spoken, mine]
    assert ids(threads(house, "bob", room_id, include="participated")) == [spoken, mine]
    assert ids(threads(house, "carol", room_id, include="participated")) == [other, spoken, mine]
    house.redact("bob", room_id, said)
    assert ids(threads(house, "bob", room_id, include="participated")) == [mine]
    assert ids(threads(house, "alice", room_id, include="participated")) == [other, spoken]


def test_threads_that_are_not_seen(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_list, "PIECE", 2)
    setting = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = room(house, initial_state=[setting])
    first = house.say("alice", room_id, "first")
    relate(house, "alice", room_id, first, "m.thread")
    house.leave("bob", room_id)
    for number in range(5):
        relate(house, "alice", room_id, house.say("alice", room_id, f"{number}"), "m.thread")
    assert ids(threads(house, "bob", room_id)) == [first]
    assert len(ids(threads(house, "carol", room_id))) == 6
    with pytest.raises(Forbidden):
        threads(house, "dave", room_id)
    wrongs: list[dict[str, Any]] = [{"limit": 0}, {"limit": -1}, {"from_": "x"}]
    for wrong in wrongs:
        with pytest.raises(InvalidParam):
            threads(house, "alice", room_id, **wrong)

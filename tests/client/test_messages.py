"""Paging through a room: every event once, in order, whatever is hidden, filtered or redacted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.client.context import Context, get_context
from homeserver.client.event import OneEvent, get_event
from homeserver.client.messages import Messages, get_messages
from homeserver.errors import BadJson, InvalidParam, NotFound
from homeserver.rooms import paging
from homeserver.rooms.compose import Template
from homeserver.streams.tokens import MOST_HELD
from homeserver.userdata.ignoring import IGNORED
from storage import account_data
from storage.account_data import GLOBAL, AccountDatum
from storage.ports import Transaction
from tests.fixtures_rooms import Town, user


def read(town: Town, name: str, room_id: str, **query: Any) -> Any:
    if isinstance(query.get("filter"), dict):
        query["filter"] = orjson.dumps(query["filter"]).decode()
    if "start" in query:
        query["from_"] = query.pop("start")
    ask = Messages(room_id, **{"dir": "b", **query})
    return town.answer(get_messages(*town.reading, town.who(name), ask))


def walk(town: Town, name: str, room_id: str, **query: Any) -> tuple[list[str], int]:
    """All event ids in the order of reading, and how many pages they took."""
    found: list[str] = []
    pages = 0
    start: dict[str, str] = {}
    while True:
        page = read(town, name, room_id, **start, **query)
        pages += 1
        found += [event["event_id"] for event in page["chunk"]]
        if "end" not in page:
            return found, pages
        start = {"start": page["end"]}


def bodies(page: Any) -> list[str]:
    return [event["content"].get("body", event["type"]) for event in page["chunk"]]


def talk(town: Town, room_id: str, count: int, name: str = "alice") -> list[str]:
    return [town.say(name, room_id, f"{number}") for number in range(count)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_every_event_comes_once_in_both_directions(town: Town, limit: int) -> None:
    room_id = town.create("alice", preset="public_chat")
    said = talk(town, room_id, 9)
    backwards, pages = walk(town, "alice", room_id, limit=limit)
    forwards, _ = walk(town, "alice", room_id, limit=limit, dir="f")
    assert backwards == forwards[::-1]
    assert forwards[-9:] == said
    assert len(set(forwards)) == len(forwards)
    assert pages == -(-len(forwards) // limit)


def test_a_page_tells_where_it_begins_and_ends(town: Town) -> None:
    room_id = town.create("alice")
    talk(town, room_id, 6)
    newest = read(town, "alice", room_id, limit=2)
    assert bodies(newest) == ["5", "4"]
    assert bodies(read(town, "alice", room_id, limit=2, start=newest["end"])) == ["3", "2"]
    assert bodies(read(town, "alice", room_id, limit=2, start=newest["end"], dir="f")) == ["4", "5"]
    assert bodies(read(town, "alice", room_id, limit=2, start=newest["start"])) == ["5", "4"]
    between = read(town, "alice", room_id, start=newest["start"], to=newest["end"], limit=9)
    assert bodies(between) == ["5", "4"]
    assert "end" not in between
    oldest = read(town, "alice", room_id, limit=1, dir="f")
    assert oldest["chunk"][0]["type"] == "m.room.create"
    again = read(town, "alice", room_id, limit=1, dir="f", start=oldest["start"])
    assert again["chunk"][0]["event_id"] == oldest["chunk"][0]["event_id"]
    without = town.answer(get_messages(*town.reading, town.who("alice"), Messages(room_id, limit=1)))
    assert bodies(without) == ["m.room.create"]


def test_a_sync_token_is_a_place_too(town: Town) -> None:
    room_id = town.create("alice")
    talk(town, room_id, 2)
    token = f"s1_{town.hub.position}_77"
    talk(town, room_id, 2)
    assert bodies(read(town, "alice", room_id, start=token, limit=2)) == ["1", "0"]
    assert bodies(read(town, "alice", room_id, start=token, limit=5, dir="f")) == ["0", "1"]


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "t1_", "t1_x", "s2_1_1", "t1_1\x00", "t1_" + "9" * 40),
        *(
            "t1_5_",
            "t1_5_x",
            "t1_5_6.",
            "t1_5_.6",
            "t1_5_5",
            "t1_5_7.6",
            "t1_5_6.6",
            "t1_5_6_7",
            "t1_5_6,7",
            "t1_5_--6",
        ),
        *("t1_5_" + "9" * 40, "t1_5_" + ".".join(map(str, range(6, 6 + MOST_HELD + 1))), "t1_5_6.\u0667"),
    ],
)
def test_foreign_tokens(town: Town, token: str) -> None:
    room_id = town.create("alice")
    with pytest.raises(InvalidParam):
        read(town, "alice", room_id, start=token)
    with pytest.raises(InvalidParam):
        read(town, "alice", room_id, to=token)


def test_what_is_held_back_lies_before_the_place(town: Town) -> None:
    room_id = town.create("alice")
    talk(town, room_id, 6)
    newest = town.hub.position
    token = f"t1_{newest - 4}_{newest - 2}.{newest}"
    page = read(town, "alice", room_id, start=token, limit=1)
    assert bodies(page) == ["5"] and page["start"] == token
    page = read(town, "alice", room_id, start=page["end"], limit=2)
    assert bodies(page) == ["3", "1"]
    assert bodies(read(town, "alice", room_id, start=page["end"], limit=1)) == ["0"]
    # Forwards it has passed already, and a page that ends between two of them says so.
    page = read(town, "alice", room_id, start=token, limit=1, dir="f")
    assert bodies(page) == ["2"]
    page = read(town, "alice", room_id, start=page["end"], limit=9, dir="f")
    assert bodies(page) == ["4"]
    # The other side of a stretch is a position.
    assert bodies(read(town, "alice", room_id, start=token, to=f"t1_{newest - 5}", limit=9)) == ["5", "3", "1"]
    assert bodies(read(town, "alice", room_id, to=token, limit=9)) == ["5", "4", "3", "2"]
    # Whoever makes such tokens up sees of other rooms, and of what is not there, nothing.
    elsewhere = town.create("alice")
    assert read(town, "alice", elsewhere, start=token)["chunk"] == []
    assert bodies(read(town, "alice", room_id, start=f"t1_{newest - 6}_{newest}.{newest + 900}", limit=1)) == ["5"]


def test_limits(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = town.create("alice")
    talk(town, room_id, 3)
    with pytest.raises(InvalidParam):
        read(town, "alice", room_id, limit=-1)
    assert read(town, "alice", room_id, limit=0)["chunk"] == []
    monkeypatch.setattr(paging, "MOST_EVENTS", 2)
    page = read(town, "alice", room_id, limit=10**9)
    assert bodies(page) == ["2", "1"]
    assert bodies(read(town, "alice", room_id, limit=1, start=page["end"])) == ["0"]


def test_filters_look_further_for_what_they_want(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    for number in range(5):
        town.say("bob", room_id, f"bob {number}")
        talk(town, room_id, 3)
    only_bob = {"senders": [user("bob")], "types": ["m.room.message"]}
    assert bodies(read(town, "alice", room_id, limit=3, filter=only_bob)) == ["bob 4", "bob 3", "bob 2"]
    found, _ = walk(town, "alice", room_id, limit=2, filter=only_bob)
    assert len(found) == 5
    nothing = {"types": ["org.example.never"]}
    page = read(town, "alice", room_id, limit=3, filter=nothing)
    assert page["chunk"] == []
    assert "end" not in page
    elsewhere = read(town, "alice", room_id, limit=3, filter={"not_rooms": [room_id]})
    assert elsewhere["chunk"] == []
    assert "end" not in elsewhere
    town.send("alice", room_id, "m.room.message", {"msgtype": "m.image", "body": "cat", "url": "mxc://a/b"})
    found = read(town, "alice", room_id, filter={"contains_url": True})
    assert bodies(found) == ["cat"]
    # Beside what was found there is always a place to look on from; the page there is empty, and the last.
    last = read(town, "alice", room_id, start=found["end"], filter={"contains_url": True})
    assert (last["chunk"], "end" in last) == ([], False)
    with pytest.raises(BadJson):
        read(town, "alice", room_id, filter="{")
    with pytest.raises(BadJson):
        read(town, "alice", room_id, filter={"types": "m.room.message"})


def test_one_request_does_not_search_forever(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "SCAN_EVENTS", 5)
    monkeypatch.setattr(paging, "MOST_SCANNED", 10)
    room_id = town.create("alice")
    talk(town, room_id, 30)
    creation = {"types": ["m.room.create"]}
    page = read(town, "alice", room_id, limit=1, filter=creation)
    assert page["chunk"] == []
    found, pages = walk(town, "alice", room_id, limit=1, filter=creation)
    assert len(found) == 1
    assert 2 < pages < 10


def test_hidden_stretches_are_skipped(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who was there twice, long ago and now, with much between that is not for them."""
    monkeypatch.setattr(paging, "SCAN_EVENTS", 10)
    monkeypatch.setattr(paging, "MOST_SCANNED", 40)
    setting = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = town.create("alice", preset="public_chat", initial_state=[setting])
    hidden = talk(town, room_id, 20)
    town.join("bob", room_id)
    first = town.say("alice", room_id, "first")
    town.leave("bob", room_id)
    hidden += talk(town, room_id, 200)
    town.join("bob", room_id)
    second = town.say("alice", room_id, "second")
    for direction in ("b", "f"):
        found, pages = walk(town, "bob", room_id, limit=4, dir=direction)
        assert pages <= 3
        kept = [event_id for event_id in found if event_id in (first, second)]
        assert kept == ([second, first] if direction == "b" else [first, second])
        assert not set(found) & set(hidden)


def test_lazy_loading_brings_the_senders(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    for name in ("bob", "carol"):
        town.join(name, room_id)
    town.say("bob", room_id, "hello")
    town.say("alice", room_id, "hello")
    page = read(town, "alice", room_id, limit=2, filter={"lazy_load_members": True})
    assert {event["state_key"] for event in page["state"]} == {user("alice"), user("bob")}
    assert all(event["type"] == "m.room.member" for event in page["state"])
    assert "state" not in read(town, "alice", room_id, limit=2)


def test_state_events_say_what_they_replaced(town: Town) -> None:
    room_id = town.create("alice", name="Old")
    town.send("alice", room_id, "m.room.name", {"name": "New"}, "")
    town.events.forget(range(1, 1000))
    unsigned = read(town, "alice", room_id, limit=1)["chunk"][0]["unsigned"]
    assert unsigned["prev_content"] == {"name": "Old"}
    assert unsigned["replaces_state"].startswith("$")


def around(town: Town, name: str, room_id: str, event_id: str, limit: int = 10, **filter: Any) -> Any:
    ask = Context(room_id, event_id, limit, orjson.dumps(filter).decode() if filter else None)
    return town.answer(get_context(*town.reading, town.who(name), ask))


def test_context(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    said = talk(town, room_id, 9)
    found = around(town, "alice", room_id, said[4], 5)
    assert [event["content"]["body"] for event in found["events_before"]] == ["3", "2"]
    assert [event["content"]["body"] for event in found["events_after"]] == ["5", "6", "7"]
    assert found["event"]["event_id"] == said[4]
    assert bodies(read(town, "alice", room_id, start=found["start"], limit=2)) == ["1", "0"]
    assert bodies(read(town, "alice", room_id, start=found["end"], limit=2, dir="f")) == ["8"]
    alone = around(town, "alice", room_id, said[4], 0)
    assert (alone["events_before"], alone["events_after"]) == ([], [])
    assert bodies(read(town, "alice", room_id, start=alone["start"], limit=1)) == ["3"]
    assert bodies(read(town, "alice", room_id, start=alone["end"], limit=1, dir="f")) == ["5"]


def test_context_has_the_state_at_its_last_event(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat", name="Old")
    town.join("bob", room_id)
    said = talk(town, room_id, 2)
    town.send("alice", room_id, "m.room.name", {"name": "New"}, "")

    def names(found: Any) -> list[str]:
        return [event["content"]["name"] for event in found["state"] if event["type"] == "m.room.name"]

    assert names(around(town, "alice", room_id, said[0], 2)) == ["Old"]
    assert names(around(town, "alice", room_id, said[1], 2)) == ["New"]
    lazy = around(town, "alice", room_id, said[0], 1, lazy_load_members=True)
    members = [event["state_key"] for event in lazy["state"] if event["type"] == "m.room.member"]
    assert members == [user("alice")]
    assert names(lazy) == ["Old"]
    filtered = around(town, "alice", room_id, said[0], 4, types=["m.room.name"])
    assert [event["type"] for event in filtered["state"]] == ["m.room.name"]
    assert filtered["event"]["event_id"] == said[0]


def test_an_event_of_another_room_is_not_found(town: Town) -> None:
    here, there = town.create("alice"), town.create("alice")
    event_id = town.say("alice", there, "hello")
    for wrong in (event_id, "$nothing", "", "$\x00", "hello", "$" + "x" * 5000):
        with pytest.raises(NotFound):
            around(town, "alice", here, wrong)
        with pytest.raises(NotFound):
            town.answer(get_event(*town.reading, town.who("alice"), OneEvent(here, wrong)))


def test_the_transaction_id_is_for_the_device_that_sent_it(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    who = town.who("alice")
    transaction = Transaction(who.user_id, who.device_id, f"send/{room_id}/m.room.message", "txn-1")
    template = Template("m.room.message", who.user_id, {"body": "hello"})
    town.wait(town.door.send(room_id, [template], transaction))
    assert read(town, "alice", room_id, limit=1)["chunk"][0]["unsigned"]["transaction_id"] == "txn-1"
    assert "transaction_id" not in read(town, "bob", room_id, limit=1)["chunk"][0]["unsigned"]


def test_what_the_ignored_say_is_left_out(town: Town) -> None:
    """Everywhere but where it is asked for by its id; state stays, or the room would look different."""
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    middle = town.say("alice", room_id, "hello")
    words = talk(town, room_id, 3, "bob")
    town.say("alice", room_id, "anybody here?")
    ignored = AccountDatum(GLOBAL, IGNORED, orjson.dumps({"ignored_users": {user("bob"): {}}}), 1)
    town.wait(town.database.write(account_data.put, user("alice"), ignored))
    page = read(town, "alice", room_id, limit=3)
    assert bodies(page) == ["anybody here?", "hello", "m.room.member"]
    assert page["chunk"][2]["sender"] == user("bob")
    around = town.answer(get_context(*town.reading, town.who("alice"), Context(room_id, middle)))
    assert [event["content"]["body"] for event in around["events_after"]] == ["anybody here?"]
    assert bodies(read(town, "bob", room_id, limit=5)) == ["anybody here?", "2", "1", "0", "hello"]
    asked_for = OneEvent(room_id, words[0])
    assert town.answer(get_event(*town.reading, town.who("alice"), asked_for))["content"]["body"] == "0"

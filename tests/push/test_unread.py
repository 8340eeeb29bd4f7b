"""What is unread, as `/sync` says it: by rooms and threads, by receipts and one's own words, over restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from homeserver.push.book import RuleBook
from homeserver.push.ledger import Ledger
from homeserver.push.rules import NewRule, find, put
from homeserver.push.watch import Watch
from homeserver.rooms.send import Sender
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.read_markers import Mark, ReadMarkers
from tests.fixtures_house import LivedInHouse, open_house

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
THREADS = {"room": {"timeline": {"unread_thread_notifications": True}}}
Counts = tuple[int, int]


@pytest.fixture
def room_id(house: LivedInHouse) -> str:
    """Alice's room, in which Bob and Carol are too."""
    return settle(house)


def settle(house: LivedInHouse) -> str:
    begin(house)
    room_id = house.create("alice", preset="public_chat")
    for name in ("bob", "carol"):
        house.join(name, room_id)
    return room_id


def begin(house: LivedInHouse) -> None:
    house.wait(house.house.part(Watch).start())


def say(house: LivedInHouse, name: str, room_id: str, text: str, **content: Any) -> str:
    message = {"msgtype": "m.text", "body": text, **content}
    return send(house, name, room_id, "m.room.message", message)


def send(house: LivedInHouse, name: str, room_id: str, event_type: str, content: dict[str, Any]) -> str:
    txn_id = str(house.house.hub.position)
    return house.wait(house.house.part(Sender).message(house.who(name), room_id, event_type, content, txn_id))


def read(house: LivedInHouse, name: str, room_id: str, event_id: str, kind: str = "m.read", thread: str = "") -> None:
    room = house.house.rooms.peek(room_id)
    assert room is not None
    mark = Mark(kind, event_id, thread)
    house.wait(house.house.part(ReadMarkers).move(room.nid, house.user(name), [mark]))


def change(house: LivedInHouse, name: str, what: Callable[[Any], None]) -> None:
    house.wait(house.house.part(RuleBook).change(house.user(name), what))


def whole(house: LivedInHouse, name: str, room_id: str) -> Counts:
    section = house.sync(name)["rooms"]["join"][room_id]
    assert "unread_thread_notifications" not in section
    return pair(section["unread_notifications"])


def threaded(house: LivedInHouse, name: str, room_id: str) -> tuple[Counts, dict[str, Counts]]:
    section = house.sync(name, filter=THREADS)["rooms"]["join"][room_id]
    threads = section.get("unread_thread_notifications", {})
    return pair(section["unread_notifications"]), {thread: pair(one) for thread, one in threads.items()}


def pair(counts: dict[str, int]) -> Counts:
    return counts["notification_count"], counts["highlight_count"]


def mention(house: LivedInHouse, *names: str, room: bool = False) -> dict[str, Any]:
    return {"m.mentions": {"user_ids": [house.user(name) for name in names], **({"room": True} if room else {})}}


def in_thread(root: str) -> dict[str, Any]:
    return {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}


def test_what_counts(house: LivedInHouse, room_id: str) -> None:
    assert whole(house, "bob", room_id) == (0, 0)
    say(house, "alice", room_id, "one")
    say(house, "alice", room_id, "two", **mention(house, "bob"))
    say(house, "alice", room_id, "everybody", **mention(house, room=True))
    send(house, "alice", room_id, "m.room.encrypted", {"algorithm": "x", "ciphertext": "y"})
    send(house, "alice", room_id, "m.reaction", {})
    say(house, "alice", room_id, "quiet", msgtype="m.notice")
    house.set_state("alice", room_id, "m.room.topic", {"topic": "x"})
    assert whole(house, "bob", room_id) == (4, 2)
    assert whole(house, "carol", room_id) == (4, 1)
    assert whole(house, "alice", room_id) == (0, 0)
    # Carol may not call for everybody, and what she says is not news to her.
    say(house, "carol", room_id, "all", **mention(house, room=True))
    assert whole(house, "bob", room_id) == (5, 2)
    assert whole(house, "carol", room_id) == (0, 0)
    house.join("dave", room_id)
    assert whole(house, "dave", room_id) == (0, 0)


def test_the_counts_come_with_the_event(house: LivedInHouse, room_id: str) -> None:
    since = house.sync("bob")["next_batch"]
    said = say(house, "alice", room_id, "one", **mention(house, "bob"))
    section = house.sync("bob", since)["rooms"]["join"][room_id]
    assert [event["event_id"] for event in section["timeline"]["events"]] == [said]
    assert pair(section["unread_notifications"]) == (1, 1)
    since = house.sync("bob")["next_batch"]
    read(house, "bob", room_id, said, "m.read.private")
    assert pair(house.sync("bob", since)["rooms"]["join"][room_id]["unread_notifications"]) == (0, 0)


def test_threads(house: LivedInHouse, room_id: str) -> None:
    """The timeline of Complement's `TestThreadedReceipts`; one mention is in the text alone, as both of its are."""
    a = say(house, "alice", room_id, "a")
    b = say(house, "alice", room_id, "b", **in_thread(a))
    say(house, "alice", room_id, f"Thread response {house.user('bob')}!", **in_thread(a))
    d = say(house, "alice", room_id, "d", **mention(house, "bob"))
    say(house, "alice", room_id, "e", **in_thread(a))
    f = say(house, "alice", room_id, "f", **{"m.relates_to": {"rel_type": "m.reference", "event_id": a}})
    last = send(
        house,
        "alice",
        room_id,
        "m.room.reaction",
        {"m.relates_to": {"rel_type": "m.annotation", "event_id": f, "key": "x"}},
    )
    assert whole(house, "bob", room_id) == (6, 2)
    assert threaded(house, "bob", room_id) == ((3, 1), {a: (3, 1)})
    read(house, "bob", room_id, a, thread="main")
    assert threaded(house, "bob", room_id) == ((2, 1), {a: (3, 1)})
    read(house, "bob", room_id, b, thread=a)
    assert threaded(house, "bob", room_id) == ((2, 1), {a: (2, 1)})
    assert whole(house, "bob", room_id) == (4, 2)
    read(house, "bob", room_id, d)
    assert threaded(house, "bob", room_id) == ((1, 0), {a: (1, 0)})
    read(house, "bob", room_id, last, thread=a)
    assert threaded(house, "bob", room_id) == ((1, 0), {})
    assert whole(house, "bob", room_id) == (1, 0)
    assert threaded(house, "carol", room_id) == ((3, 0), {a: (3, 0)})
    # Who answers in a thread has read it, and nothing else.
    say(house, "carol", room_id, "g", **in_thread(a))
    assert threaded(house, "carol", room_id) == ((3, 0), {})


def test_the_receipt_that_is_further(house: LivedInHouse, room_id: str) -> None:
    first, second, _ = (say(house, "alice", room_id, text) for text in "abc")
    read(house, "bob", room_id, second, "m.read")
    read(house, "bob", room_id, first, "m.read.private")
    assert whole(house, "bob", room_id) == (1, 0)


def test_rooms_that_are_muted(house: LivedInHouse, room_id: str) -> None:
    say(house, "alice", room_id, "one")
    change(house, "bob", lambda rules: put(rules, NewRule("room", room_id, [])))
    say(house, "alice", room_id, "two")
    assert whole(house, "bob", room_id) == (0, 0)
    assert whole(house, "carol", room_id) == (2, 0)
    say(house, "alice", room_id, "bob!", **mention(house, "bob"))
    assert whole(house, "bob", room_id) == (1, 1)
    change(house, "bob", lambda rules: find(rules, "room", room_id).update(enabled=False))
    say(house, "alice", room_id, "three")
    assert whole(house, "bob", room_id) == (2, 1)


@on_sqlite
def test_a_text_that_does_not_say_whom_it_mentions_means_whose_whole_id_it_has(
    house: LivedInHouse, room_id: str
) -> None:
    bob = house.user("bob")
    for text in (f"Hello {bob}!", f"({bob}), {bob}: {bob}.", f"> <{bob}> hm\n\nwhat?"):
        say(house, "alice", room_id, text)
    assert whole(house, "bob", room_id) == (3, 3)
    assert whole(house, "carol", room_id) == (3, 0)
    said = say(house, "bob", room_id, f"I am {bob}")
    for text in ("bob", bob.upper(), f"{bob}:8448", f"{bob}x", bob[1:], "@", "@:", "@bob:"):
        say(house, "alice", room_id, text)
    say(house, "alice", room_id, f"not {bob}", **mention(house))
    say(house, "alice", room_id, f"* not {bob}", **{"m.relates_to": {"rel_type": "m.replace", "event_id": said}})
    send(house, "alice", room_id, "m.room.message", {"msgtype": "m.notice", "body": bob})
    assert whole(house, "bob", room_id) == (9, 0)


def test_only_mentions(house: LivedInHouse, room_id: str) -> None:
    change(house, "bob", lambda rules: find(rules, "underride", ".m.rule.message").update(actions=[]))
    change(house, "carol", lambda rules: find(rules, "override", ".m.rule.master").update(enabled=True))
    say(house, "alice", room_id, "one")
    say(house, "alice", room_id, "two", **mention(house, "bob", "carol"))
    assert whole(house, "bob", room_id) == (1, 1)
    assert whole(house, "carol", room_id) == (0, 0)


def test_words_and_people(house: LivedInHouse, room_id: str) -> None:
    loud: list[Any] = ["notify", {"set_tweak": "highlight"}]
    change(house, "bob", lambda rules: put(rules, NewRule("content", "cake", loud, pattern="ca?e")))
    change(house, "carol", lambda rules: put(rules, NewRule("sender", house.user("alice"), [])))
    say(house, "alice", room_id, "before")
    say(house, "alice", room_id, "Cake!")
    assert whole(house, "bob", room_id) == (2, 1)
    assert whole(house, "carol", room_id) == (0, 0)
    say(house, "bob", room_id, "cake")
    assert whole(house, "bob", room_id) == (0, 0)
    assert whole(house, "carol", room_id) == (1, 0)


def test_people_who_are_ignored(house: LivedInHouse, room_id: str) -> None:
    ignored: dict[str, Any] = {"ignored_users": {house.user("alice"): {}}}
    house.wait(house.house.part(AccountData).put(house.user("bob"), GLOBAL, "m.ignored_user_list", ignored))
    say(house, "alice", room_id, "one", **mention(house, "bob"))
    say(house, "carol", room_id, "two")
    assert whole(house, "bob", room_id) == (1, 0)


def test_rooms_of_two(house: LivedInHouse) -> None:
    begin(house)
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    say(house, "alice", room_id, "psst")
    assert whole(house, "bob", room_id) == (1, 0)


@pytest.mark.parametrize("is_crash", [False, True])
def test_restarts(tmp_path: Path, database_url: str, is_crash: bool) -> None:
    """What was counted is counted, whether it was written before the end or not."""
    house = open_house(tmp_path, database_url)
    room_id = settle(house)
    change(house, "carol", lambda rules: put(rules, NewRule("room", room_id, [])))
    root = say(house, "alice", room_id, "one")
    say(house, "alice", room_id, "two", **mention(house, "bob", "carol"), **in_thread(root))
    say(house, "bob", room_id, "three")
    say(house, "alice", room_id, "four")
    before = [threaded(house, name, room_id) for name in ("alice", "bob", "carol")]
    assert before == [((0, 0), {}), ((1, 0), {root: (1, 1)}), ((0, 0), {root: (1, 1)})]
    if is_crash:
        ledger = house.house.part(Ledger)
        ledger._unsaved = type(ledger._unsaved)()
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    begin(again)
    assert [threaded(again, name, room_id) for name in ("alice", "bob", "carol")] == before
    say(again, "bob", room_id, "five")
    assert threaded(again, "bob", room_id) == ((0, 0), {root: (1, 1)})
    again.wait(again.house.close())


def test_a_place_that_is_read_while_things_happen(house: LivedInHouse, room_id: str) -> None:
    """Nothing is lost, nor counted twice, that comes while memory is filled from the database."""
    for number in range(3):
        say(house, "alice", room_id, f"early {number}")
    house.wait(house.house.part(Ledger).flush())
    room = house.house.rooms.peek(room_id)
    assert room is not None
    ledger = house.house.part(Ledger)
    loading = Deferred.fromCoroutine(ledger.of(house.user("bob"), [room]))
    last = say(house, "alice", room_id, "meanwhile")
    assert house.wait(loading)[room.nid].total.notifications in (3, 4)
    assert whole(house, "bob", room_id) == (4, 0)
    read(house, "bob", room_id, last)
    assert whole(house, "bob", room_id) == (0, 0)

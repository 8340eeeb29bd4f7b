"""Threads that people follow, and those that they do not: what is told of them, and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homeserver.push.defaults import SUBSCRIBED_THREAD, UNSUBSCRIBED_THREAD
from homeserver.push.followers import Followers
from homeserver.push.listing import Notifications
from homeserver.push.rules import NewRule, find, put, remove
from homeserver.relations.subscriptions import Subscriptions
from tests.fixtures_house import LivedInHouse, open_house
from tests.push.test_unread import begin, change, in_thread, mention, read, say, settle, threaded, whole


def follow(house: LivedInHouse, name: str, room_id: str, root: str, cause: str | None = None) -> None:
    house.wait(house.house.part(Subscriptions).subscribe(house.user(name), room_id, root, cause))


def leave_alone(house: LivedInHouse, name: str, room_id: str, root: str) -> None:
    house.wait(house.house.part(Subscriptions).unsubscribe(house.user(name), room_id, root))


def told(house: LivedInHouse, name: str) -> list[str]:
    page = house.wait(house.house.part(Notifications).page(house.user(name), None, 50, False))
    return [str(one.stored.event.content.get("body")) for one in page.entries][::-1]


def test_only_what_one_follows(tmp_path: Path, database_url: str) -> None:
    house = open_house(tmp_path, database_url)
    room_id = settle(house)
    a, b = say(house, "alice", room_id, "a"), say(house, "alice", room_id, "b")
    say(house, "alice", room_id, "a1", **in_thread(a))
    # Who never followed anything is told of all threads, as before.
    assert threaded(house, "bob", room_id) == ((2, 0), {a: (1, 0)})
    follow(house, "bob", room_id, a)
    rules = house.wait(house.house.push.book.of(house.user("bob")))
    assert find(rules, "postcontent", UNSUBSCRIBED_THREAD)["enabled"]
    # From now on only those count that he follows, and what he is meant by.
    assert threaded(house, "bob", room_id) == ((2, 0), {})
    say(house, "alice", room_id, "a2", **in_thread(a))
    say(house, "alice", room_id, "b1", **in_thread(b))
    say(house, "alice", room_id, "b2", **in_thread(b), **mention(house, "bob"))
    say(house, "alice", room_id, "c")
    assert threaded(house, "bob", room_id) == ((3, 0), {a: (1, 0), b: (1, 1)})
    assert threaded(house, "carol", room_id) == ((3, 0), {a: (2, 0), b: (2, 0)})
    assert told(house, "bob") == ["a", "b", "a2", "b2", "c"]
    assert told(house, "carol") == ["a", "b", "a1", "a2", "b1", "b2", "c"]
    # The same after a restart, from what is on disk.
    house.wait(house.house.close())
    house = open_house(tmp_path, database_url)
    begin(house)
    last = say(house, "alice", room_id, "a3", **in_thread(a))
    say(house, "alice", room_id, "b3", **in_thread(b))
    assert threaded(house, "bob", room_id) == ((3, 0), {a: (2, 0), b: (1, 1)})
    read(house, "bob", room_id, last, thread=a)
    leave_alone(house, "bob", room_id, a)
    say(house, "alice", room_id, "a4", **in_thread(a))
    assert threaded(house, "bob", room_id) == ((3, 0), {b: (1, 1)})
    # All of them again, from now on.
    change(house, "bob", lambda rules: find(rules, "postcontent", UNSUBSCRIBED_THREAD).update(enabled=False))
    say(house, "alice", room_id, "b4", **in_thread(b))
    assert threaded(house, "bob", room_id) == ((3, 0), {b: (2, 1)})
    # A rule that somebody turned off stays off, whatever they follow.
    follow(house, "bob", room_id, a)
    rules = house.wait(house.house.push.book.of(house.user("bob")))
    assert not find(rules, "postcontent", UNSUBSCRIBED_THREAD)["enabled"]
    # Then what is said in any thread counts, but that makes a sound which is said in one that he follows.
    for root in (a, b):
        say(house, "alice", room_id, f"in {root}", **in_thread(root))
    page = house.wait(house.house.part(Notifications).page(house.user("bob"), None, 2, False))
    assert [b"sound" in one.actions for one in page.entries] == [False, True]
    house.wait(house.house.close())


def test_what_goes_before_and_after(house: LivedInHouse) -> None:
    """A muted room does not mute a thread that one follows; a rule that overrides, and words of one's own, do."""
    room_id = settle(house)
    a = say(house, "alice", room_id, "a")
    for name in ("bob", "carol"):
        follow(house, name, room_id, a)
    change(house, "bob", lambda rules: put(rules, NewRule("room", room_id, [])))
    quiet: dict[str, Any] = {"kind": "event_match", "key": "room_id", "pattern": room_id}
    change(house, "carol", lambda rules: put(rules, NewRule("override", room_id, [], [quiet])))
    say(house, "alice", room_id, "a1", **in_thread(a))
    say(house, "alice", room_id, "timeline")
    assert told(house, "bob") == ["a1"] and told(house, "carol") == ["a"]
    assert whole(house, "bob", room_id) == whole(house, "carol", room_id) == (1, 0)
    loud = ["notify", {"set_tweak": "highlight"}]
    change(house, "bob", lambda rules: put(rules, NewRule("content", "cake", loud, pattern="cake")))
    say(house, "alice", room_id, "a cake", **in_thread(a))
    assert whole(house, "bob", room_id) == (2, 1)
    # What one says oneself in it is no news, nor what others say of it in the timeline.
    say(house, "bob", room_id, "mine", **in_thread(a))
    say(house, "alice", room_id, "see", **{"m.relates_to": {"rel_type": "m.reference", "event_id": a}})
    assert whole(house, "bob", room_id) == (0, 0)
    # Who has left is told of nothing, though the subscription is there when they come back.
    house.leave("bob", room_id)
    say(house, "alice", room_id, "a2", **in_thread(a))
    house.join("bob", room_id)
    say(house, "alice", room_id, "a3", **in_thread(a))
    assert whole(house, "bob", room_id) == (1, 0)
    change(house, "bob", lambda rules: find(rules, "postcontent", SUBSCRIBED_THREAD).update(enabled=False))
    say(house, "alice", room_id, "a4", **in_thread(a))
    assert whole(house, "bob", room_id) == (1, 0)  # the room is muted


def test_words_of_those_who_follow(house: LivedInHouse) -> None:
    room_id = settle(house)
    a, b = say(house, "alice", room_id, "a"), say(house, "alice", room_id, "b")
    follow(house, "bob", room_id, a)
    assert house.house.push.watch.people.hushed == {house.user("bob")}
    loud = ["notify", {"set_tweak": "highlight"}]
    change(house, "bob", lambda rules: put(rules, NewRule("content", "cake", loud, pattern="cake")))
    assert house.house.push.watch.people.hushed == {house.user("bob")}
    for place in ({}, in_thread(a), in_thread(b)):
        say(house, "alice", room_id, "cake", **place)
        say(house, "alice", room_id, "bread", **place)
    assert threaded(house, "bob", room_id) == ((4, 1), {a: (2, 1), b: (1, 1)})
    change(house, "bob", lambda rules: put(rules, NewRule("sender", house.user("carol"), [])))
    assert not house.house.push.watch.people.hushed
    change(house, "bob", lambda rules: remove(rules, "sender", house.user("carol")))
    change(house, "bob", lambda rules: find(rules, "postcontent", UNSUBSCRIBED_THREAD).update(enabled=False))
    assert not house.house.push.watch.people.hushed and not house.house.push.watch.people.apart


def test_what_is_known_better_already() -> None:
    followers = Followers()
    followers.put("@a:x", 1, "$r", follows=True)
    followers.put("@b:x", 1, "$r", follows=False)
    followers.load([("@b:x", 1, "$r"), ("@c:x", 1, "$r"), ("@a:x", 1, "$r"), ("@c:x", 2, "$r")])
    assert followers.of(1, "$r") == {"@a:x", "@c:x"} and followers.of(2, "$r") == {"@c:x"}
    assert [followers.count(one) for one in ("@a:x", "@b:x", "@c:x")] == [1, 0, 2]
    followers.forget("@c:x")
    assert followers.of(1, "$r") == {"@a:x"} and not followers.of(2, "$r") and not followers.count("@c:x")

"""`/sync` as a client sees it, section by section, and its law: many small syncs add up to one large one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from homeserver.errors import UnknownToken
from homeserver.sync.engine import Sync
from homeserver.userdata.account_data import GLOBAL, AccountData
from tests.fixtures_house import QUIET, LivedInHouse
from tests.fixtures_rooms import user


def ids(section: dict[str, Any], part: str = "timeline") -> list[str]:
    return [event["event_id"] for event in section[part]["events"]]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_a_first_sync_shows_the_room_and_the_next_nothing(house: LivedInHouse) -> None:
    room_id = house.create("alice", name="The pub")
    answer = house.sync("alice")
    section = answer["rooms"]["join"][room_id]
    # The creation is all there is, so all of it is in the timeline and no state lies before it.
    assert section["state"]["events"] == [] and not section["timeline"]["limited"]
    assert types(section["timeline"]["events"])[:2] == ["m.room.create", "m.room.member"]
    assert section["timeline"]["events"][0]["unsigned"].keys() >= {"age", "membership"}
    assert set(house.sync("alice", answer["next_batch"])) == QUIET


def test_state_lies_before_a_limited_timeline(house: LivedInHouse) -> None:
    room_id = house.create("alice", name="before")
    house.set_state("alice", room_id, "m.room.name", {"name": "after"})
    answer = house.sync("alice", filter={"room": {"timeline": {"limit": 1}}})
    section = answer["rooms"]["join"][room_id]
    assert section["timeline"]["limited"] and types(section["timeline"]["events"]) == ["m.room.name"]
    names = [event["content"] for event in section["state"]["events"] if event["type"] == "m.room.name"]
    assert names == [{"name": "before"}]
    after = house.sync("alice", filter={"room": {"timeline": {"limit": 1}}}, use_state_after=True)
    section = after["rooms"]["join"][room_id]
    assert "state" not in section
    names = [event["content"] for event in section["state_after"]["events"] if event["type"] == "m.room.name"]
    assert names == [{"name": "after"}]


def test_a_gap_carries_the_state_that_changed_in_it(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    since = house.sync("alice")["next_batch"]
    house.set_state("alice", room_id, "m.room.topic", {"topic": "in the gap"})
    house.join("bob", room_id)
    for number in range(5):
        house.say("alice", room_id, f"message {number}")
    section = house.sync("alice", since, filter={"room": {"timeline": {"limit": 2}}})["rooms"]["join"][room_id]
    assert section["timeline"]["limited"]
    assert [event["content"]["body"] for event in section["timeline"]["events"]] == ["message 3", "message 4"]
    assert sorted(types(section["state"]["events"])) == ["m.room.member", "m.room.topic"]


def test_lazy_members_are_those_whom_the_timeline_or_the_summary_shows(house: LivedInHouse) -> None:
    lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
    others = ("bob", "carol", "dave", "eve", "frank", "grace", "heidi")
    room_id = house.create("alice", preset="public_chat")
    for name in others:
        house.join(name, room_id)
    house.say("grace", room_id, "hello")

    def shown() -> tuple[dict[str, Any], set[str]]:
        section = house.sync("alice", filter=lazy)["rooms"]["join"][room_id]
        events = [event for event in section["state"]["events"] if event["type"] == "m.room.member"]
        return section["summary"], {event["state_key"] for event in events}

    summary, members = shown()
    heroes = [user(name) for name in others[:5]]
    assert summary == {"m.joined_member_count": 8, "m.invited_member_count": 0, "m.heroes": heroes}
    assert members == {user("alice"), user("grace"), *heroes}
    house.set_state("alice", room_id, "m.room.name", {"name": "The pub"})
    house.say("grace", room_id, "hello again")
    summary, members = shown()
    assert summary == {"m.joined_member_count": 8, "m.invited_member_count": 0}
    assert members == {user("alice"), user("grace")}


@pytest.mark.parametrize("after", [False, True])
def test_lazy_readers_hear_of_all_members_who_changed_in_a_gap(house: LivedInHouse, after: bool) -> None:
    """They may have been told of them before, and would never hear that they left."""
    lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
    room_id = house.create("alice", preset="public_chat", name="The pub")
    for name in ("bob", "carol", "dave"):
        house.join(name, room_id)
    since = house.sync("alice", filter=lazy)["next_batch"]
    house.leave("carol", room_id)
    house.join("eve", room_id)
    for number in range(3):
        house.say("bob", room_id, f"message {number}")
    section = house.sync("alice", since, filter=lazy, use_state_after=after)["rooms"]["join"][room_id]
    state = section["state_after" if after else "state"]["events"]
    assert section["timeline"]["limited"]
    assert {event["state_key"]: event["content"]["membership"] for event in state} == {
        user("bob"): "join",  # who speaks
        user("carol"): "leave",
        user("eve"): "join",
    }


@pytest.mark.parametrize("lazy", [False, True])
def test_the_summary_comes_when_it_changed(house: LivedInHouse, lazy: bool) -> None:
    manner = {"room": {"state": {"lazy_load_members": lazy}}}
    room_id = house.create("alice", preset="public_chat")
    since = house.sync("alice", filter=manner)["next_batch"]

    def news() -> Any:
        nonlocal since
        answer = house.sync("alice", since, filter=manner)
        since = answer["next_batch"]
        section = answer.get("rooms", {}).get("join", {}).get(room_id, {})
        return section.get("summary")

    def counts(joined: int, invited: int) -> dict[str, Any]:
        return {"m.joined_member_count": joined, "m.invited_member_count": invited}

    others = ("bob", "carol", "dave", "eve", "frank", "grace", "heidi")
    house.wait(house.memberships.invite(room_id, user("alice"), user("bob")))
    assert news() == {**counts(1, 1), "m.heroes": [user("bob")]}
    for number, name in enumerate(others, start=1):
        house.join(name, room_id)
        heroes = {"m.heroes": [user(other) for other in others[:number]]} if number <= 5 else {}
        assert news() == {**counts(number + 1, 0), **heroes}
    house.say("bob", room_id, "nothing new")
    assert news() is None
    house.leave("heidi", room_id)
    assert news()["m.joined_member_count"] == 7
    house.leave("carol", room_id)
    left = [user(other) for other in others if other not in ("carol", "heidi")]
    assert news() == {**counts(6, 0), "m.heroes": left}
    house.set_state("alice", room_id, "m.room.name", {"name": "The pub"})
    assert news() is None
    house.leave("bob", room_id)
    assert news() == counts(5, 0)
    house.set_state("alice", room_id, "m.room.name", {"name": ""})
    assert news() == {"m.heroes": left[1:]}
    for other in left[1:]:
        house.leave(other.partition(":")[0][1:], room_id)
    assert news()["m.heroes"] == [user(name) for name in ("heidi", "carol", "bob", "dave", "eve")]


@pytest.mark.parametrize("lazy", [False, True])
def test_who_left_is_told_no_summary_and_no_later_state(house: LivedInHouse, lazy: bool) -> None:
    manner = {"room": {"state": {"lazy_load_members": lazy}, "timeline": {"limit": 1}, "include_leave": True}}
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = house.sync("bob", filter=manner)["next_batch"]
    topic = house.set_state("alice", room_id, "m.room.topic", {"topic": "before"})
    house.say("alice", room_id, "bye")
    house.leave("bob", room_id)
    house.set_state("alice", room_id, "m.room.topic", {"topic": "after"})
    told = {"displayname": "Alice, later", "membership": "join"}
    renamed = house.set_state("alice", room_id, "m.room.member", told, user("alice"))
    for answer in (house.sync("bob", since, filter=manner), house.sync("bob", filter=manner)):
        section = answer["rooms"]["leave"][room_id]
        assert "summary" not in section
        assert types(section["timeline"]["events"]) == ["m.room.member"]
        assert topic in ids(section, "state") and renamed not in ids(section, "state")


def test_a_room_left_is_shown_as_it_was_before_its_timeline(house: LivedInHouse) -> None:
    wanted = {"types": ["m.room.message", "org.example.state"]}
    manner = {"room": {"timeline": wanted, "state": {"types": ["org.example.state"]}, "include_leave": True}}
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    event_id = house.set_state("alice", room_id, "org.example.state", {"is": "before"})
    house.leave("bob", room_id)
    house.set_state("alice", room_id, "org.example.state", {"is": "after"})
    section = house.sync("bob", filter=manner)["rooms"]["leave"][room_id]
    assert ids(section) == [event_id] and ids(section, "state") == []
    after = house.sync("bob", filter=manner, use_state_after=True)["rooms"]["leave"][room_id]
    assert ids(after, "state_after") == [event_id]


def test_a_room_that_one_enters_continues_nothing(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    since = house.sync("bob")["next_batch"]
    house.join("bob", room_id)
    answer = house.sync("bob", since)
    assert answer["rooms"]["join"][room_id]["timeline"]["limited"]
    assert not house.sync("bob")["rooms"]["join"][room_id]["timeline"]["limited"]
    # A new name is no new entry, for a feed that is opened only now neither.
    since = answer["next_batch"]
    told = {"displayname": "Bob the second", "membership": "join"}
    event_id = house.set_state("bob", room_id, "m.room.member", told, user("bob"))
    for _ in range(2):
        section = house.sync("bob", since)["rooms"]["join"][room_id]
        assert ids(section) == [event_id] and section["state"]["events"] == []
        assert not section["timeline"]["limited"]
        hub = house.house.hub
        if (feed := hub.feed(user("bob"))) is not None:
            hub.close_feed(feed)


def test_only_the_sending_device_sees_the_transaction_id(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = {name: house.sync(name)["next_batch"] for name in ("alice", "bob")}
    event_id = house.say("alice", room_id, "hello", txn_id="m1")
    assert house.say("alice", room_id, "hello", txn_id="m1") == event_id

    def unsigned(name: str, device_id: str) -> dict[str, Any]:
        section = house.sync(name, since[name], device_id=device_id)["rooms"]["join"][room_id]
        assert ids(section) == [event_id]
        found: dict[str, Any] = section["timeline"]["events"][0]["unsigned"]
        return found

    for _ in range(2):  # in either order, so that no shared copy leaks it
        assert "transaction_id" not in unsigned("bob", "DEVICE")
        assert unsigned("alice", "DEVICE")["transaction_id"] == "m1"
        assert "transaction_id" not in unsigned("alice", "OTHER")


def test_invitation_then_join_then_leaving(house: LivedInHouse) -> None:
    room_id = house.create("alice", name="The pub", invite=[user("bob")])
    first = house.sync("bob")
    shown = {event["type"]: event for event in first["rooms"]["invite"][room_id]["invite_state"]["events"]}
    assert shown["m.room.name"]["content"] == {"name": "The pub"} and "m.room.member" in shown
    assert all("event_id" not in event for event in shown.values())

    secret = house.say("alice", room_id, "before bob joined")
    house.join("bob", room_id)
    second = house.sync("bob", first["next_batch"])
    section = second["rooms"]["join"][room_id]
    assert secret in ids(section) and "invite" not in second["rooms"]

    house.leave("bob", room_id)
    unheard = house.say("alice", room_id, "after bob left")
    third = house.sync("bob", second["next_batch"])
    assert set(third["rooms"]) == {"leave"}
    timeline = third["rooms"]["leave"][room_id]["timeline"]["events"]
    assert types(timeline) == ["m.room.member"] and unheard not in [event["event_id"] for event in timeline]
    assert set(house.sync("bob", third["next_batch"])) == QUIET
    assert "rooms" not in house.sync("bob")
    with_left = house.sync("bob", filter={"room": {"include_leave": True}})
    assert unheard not in ids(with_left["rooms"]["leave"][room_id])


def test_a_rejected_invitation_shows_no_more_than_its_end(house: LivedInHouse) -> None:
    room_id = house.create("alice", name="The pub", invite=[user("bob")])
    since = house.sync("bob")["next_batch"]
    house.set_state("alice", room_id, "m.room.topic", {"topic": "not for bob"})
    house.leave("bob", room_id)
    section = house.sync("bob", since)["rooms"]["leave"][room_id]
    assert types(section["timeline"]["events"]) == ["m.room.member"] and section["state"]["events"] == []


def test_a_long_poll_is_woken_by_a_message(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = house.sync("bob")["next_batch"]
    waiting = house.start_sync("bob", since, timeout_ms=30_000)
    assert not waiting.called and house.house.hub.waiting == 1
    event_id = house.say("alice", room_id, "wake up")
    house.advance(0)
    answer = house.wait(waiting)
    assert event_id.encode() in answer and house.house.hub.waiting == 0


def test_a_long_poll_ends_when_its_time_is_over(house: LivedInHouse) -> None:
    house.create("alice")
    since = house.sync("alice")["next_batch"]
    # Each look at this house's clock takes 10 ms.
    waiting = house.start_sync("alice", since, timeout_ms=1)
    house.advance(60)
    assert set(orjson.loads(house.wait(waiting))) == QUIET


def test_a_long_poll_ends_with_its_device(house: LivedInHouse) -> None:
    house.create("alice")
    since = house.sync("alice", device_id="LOST")["next_batch"]
    waiting = house.start_sync("alice", since, timeout_ms=30_000, device_id="LOST")
    house.wait(house.house.part(Sync).polls.devices_removed(user("alice"), ["LOST"]))
    with pytest.raises(UnknownToken):
        house.wait(waiting)


def test_a_cancelled_long_poll_leaves_nothing_behind(house: LivedInHouse) -> None:
    house.create("alice")
    since = house.sync("alice")["next_batch"]
    waiting: Deferred[Any] = house.start_sync("alice", since, timeout_ms=30_000)
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    assert house.house.hub.waiting == 0
    feed = house.house.hub.feed(user("alice"))
    assert feed is not None and feed.waiters == []


def test_a_token_older_than_memory_is_answered_from_the_database(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    quiet = house.create("alice", invite=[user("bob")])
    since = house.sync("bob")["next_batch"]
    sent = [house.say("alice", room_id, f"message {number}") for number in range(80)]
    feed = house.house.hub.feed(user("bob"))
    assert feed is not None
    house.house.hub.close_feed(feed)
    live = house.house.rooms.peek(room_id)
    assert live is not None
    house.house.rooms.drop(live)
    answer = house.sync("bob", since, filter={"room": {"timeline": {"limit": 100}}})
    assert ids(answer["rooms"]["join"][room_id]) == sent
    assert quiet not in answer["rooms"].get("invite", {}) and quiet not in answer["rooms"]["join"]


def test_a_redaction_changes_what_is_synced_from_then_on(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    event_id = house.say("bob", room_id, "regrettable")
    house.redact("bob", room_id, event_id)
    events = house.sync("alice")["rooms"]["join"][room_id]["timeline"]["events"]
    (redacted,) = [event for event in events if event["event_id"] == event_id]
    assert redacted["content"] == {} and redacted["unsigned"]["redacted_because"]["sender"] == user("bob")


def test_filters_by_type_sender_and_room(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    other = house.create("alice")
    house.join("bob", room_id)
    wanted = house.say("bob", room_id, "from bob")
    for number in range(30):
        house.say("alice", room_id, f"from alice {number}")
    only = {"room": {"timeline": {"senders": [user("bob")], "types": ["m.room.message"]}, "rooms": [room_id]}}
    answer = house.sync("alice", filter=only)
    assert ids(answer["rooms"]["join"][room_id]) == [wanted] and other not in answer["rooms"]["join"]


def test_ignored_people_are_not_heard(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    house.join("carol", room_id)
    since = house.sync("alice")["next_batch"]
    unwanted = house.say("bob", room_id, "buy my things")
    ignored: dict[str, Any] = {"ignored_users": {user("bob"): {}}}
    house.wait(house.house.part(AccountData).put(user("alice"), GLOBAL, "m.ignored_user_list", ignored))
    wanted = house.say("carol", room_id, "hello")
    named = house.set_state("bob", room_id, "m.room.member", {"membership": "join", "displayname": "B"}, user("bob"))
    house.create("bob", invite=[user("alice")])
    answer = house.sync("alice", since)
    # What somebody is called is state, and stays: the room would be another one without it.
    assert ids(answer["rooms"]["join"][room_id]) == [wanted, named]
    assert "invite" not in answer["rooms"]
    assert unwanted not in ids(house.sync("alice")["rooms"]["join"][room_id])
    assert unwanted in ids(house.sync("carol", since)["rooms"]["join"][room_id])


def test_whoever_came_and_went_between_two_syncs_is_shown_the_room_as_it_was(house: LivedInHouse) -> None:
    room_id = house.create("alice", name="The pub", preset="public_chat")
    since = house.sync("bob")["next_batch"]
    for number in range(15):
        house.say("alice", room_id, f"before {number}")
    house.join("bob", room_id)
    named: dict[str, Any] = {"membership": "join", "displayname": "B"}
    house.set_state("bob", room_id, "m.room.member", named, user("bob"))
    house.leave("bob", room_id)
    house.set_state("alice", room_id, "m.room.name", {"name": "not for bob"})
    section = house.sync("bob", since)["rooms"]["leave"][room_id]
    names = [event["content"] for event in section["state"]["events"] if event["type"] == "m.room.name"]
    assert names == [{"name": "The pub"}] and section["timeline"]["limited"]

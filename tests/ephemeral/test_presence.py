"""Who is told of whom, when, and what it costs; on a fake clock and a real database."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Presence
from homeserver.ephemeral.person import GONE_MS, Person
from homeserver.ephemeral.presence import RETURN_MS
from homeserver.errors import Forbidden
from homeserver.streams.hub import Feed
from storage import presence as rows
from tests.fixtures_userdata import Household, parsed, user


def by_sender(events: list[bytes]) -> dict[str, Any]:
    found = {}
    for event in parsed(events):
        assert event["type"] == "m.presence"
        found[event["sender"].partition(":")[0]] = event["content"]
    return found


class Reader:
    """Follows presence as /sync does: by serials."""

    def __init__(self, household: Household, name: str) -> None:
        self.household = household
        self.feed: Feed = household.feed(name)
        self.serial = household.town.hub.serial

    def news(self) -> dict[str, Any]:
        found = by_sender(self.household.presence.changes(self.feed, self.serial))
        self.serial = self.household.town.hub.serial
        return found


def open_room(household: Household, *names: str) -> str:
    room_id = household.town.create(names[0], preset="public_chat")
    for name in names[1:]:
        household.town.join(name, room_id)
    return room_id


def test_those_who_share_a_room_are_told_and_woken(household: Household) -> None:
    open_room(household, "ann", "bob")
    open_room(household, "cat", "dan")
    ann, cat = Reader(household, "ann"), Reader(household, "cat")
    woken = household.town.hub.wait(ann.feed, 30_000)
    household.feed("bob")
    household.presence.seen(user("bob"), None, "PHONE", 0)
    assert ann.news() == {} and not woken.called
    household.advance(0.5)
    assert woken.called
    assert ann.news() == {"@bob": {"presence": "online", "currently_active": True, "last_active_ago": 500}}
    assert ann.news() == {} and cat.news() == {}


def test_one_is_told_of_oneself(household: Household) -> None:
    ann = Reader(household, "ann")
    household.presence.set(user("ann"), "PHONE", "unavailable", "busy")
    household.advance(0.5)
    content = {"presence": "unavailable", "last_active_ago": 500, "status_msg": "busy"}
    assert ann.news() == {"@ann": content}


def test_many_changes_are_told_at_once_and_only_the_last(household: Household) -> None:
    open_room(household, "ann", "bob")
    ann = Reader(household, "ann")
    household.feed("bob")
    for presence in ("online", "unavailable", "offline", "unavailable"):
        household.presence.set(user("bob"), "PHONE", presence, None)
    household.advance(0.5)
    assert [content["presence"] for content in ann.news().values()] == ["unavailable"]


def test_going_is_told_by_itself_also_after_the_feed_is_closed(household: Household) -> None:
    open_room(household, "ann", "bob")
    bob = household.feed("bob")
    household.presence.seen(user("bob"), None, "PHONE", 0)
    household.advance(1)
    ann = Reader(household, "ann")
    household.advance(GONE_MS / 1000 + 11)
    household.town.hub.close_feed(bob)
    news = ann.news()
    assert news["@bob"]["presence"] == "offline" and "currently_active" not in news["@bob"]


def test_acting_brings_back_who_was_away(household: Household) -> None:
    room_id = open_room(household, "ann", "bob")
    household.feed("bob")
    household.presence.set(user("bob"), "PHONE", "unavailable", None)
    household.advance(1)
    ann = Reader(household, "ann")
    household.town.say("bob", room_id, "hello")
    household.advance(0.5)
    assert ann.news()["@bob"]["presence"] == "online"


def test_a_first_sync_is_told_who_is_here(household: Household) -> None:
    open_room(household, "ann", "bob", "cat", "dan")
    for name in ("bob", "cat"):
        household.feed(name)
        household.presence.seen(user(name), None, "PHONE", 600_000)
    household.presence.set(user("cat"), "PHONE", "offline", None)
    household.presence.set(user("dan"), "PHONE", "online", "here without sync")
    household.presence.seen(user("eve"), None, "PHONE", 600_000)
    household.advance(0.5)
    ann = household.feed("ann")
    assert set(by_sender(household.presence.changes(ann, 0))) == {"@bob", "@dan"}


def test_who_comes_into_a_room_is_told_of(household: Household) -> None:
    room_id = open_room(household, "ann")
    household.feed("bob")
    household.presence.seen(user("bob"), None, "PHONE", 600_000)
    household.advance(1)
    ann = Reader(household, "ann")
    household.town.join("bob", room_id)
    household.advance(0.5)
    assert "@bob" in ann.news()
    bob = household.feed("bob")
    nid = household.nid(room_id)
    assert set(by_sender(household.presence.present(bob, [nid]))) == {"@bob"}
    household.presence.seen(user("ann"), None, "PHONE", 600_000)
    household.settle()  # how she wants to be seen is read first, and that is not put off
    assert set(by_sender(household.presence.present(bob, [nid]))) == {"@ann", "@bob"}


def test_names_are_told_where_they_are_at_hand_and_again_when_they_change(household: Household) -> None:
    open_room(household, "ann", "bob")
    household.feed("bob")
    household.presence.seen(user("bob"), None, "PHONE", 600_000)
    household.advance(1)
    ann = Reader(household, "ann")
    household.wait(household.profiles.set_field(user("bob"), "displayname", "Bob"))
    household.wait(household.profiles.set_field(user("bob"), "m.tz", "Europe/Berlin"))
    household.wait(household.profiles.displayname_and_avatar(user("bob")))
    household.advance(0.5)
    assert ann.news()["@bob"]["displayname"] == "Bob"


def test_in_a_crowd_nobody_is_told(household: Household) -> None:
    crowd = household.rerun(largest_crowd=2)
    open_room(crowd, "ann", "bob", "cat")
    readers = [Reader(crowd, name) for name in ("ann", "bob", "cat")]
    crowd.presence.seen(user("bob"), None, "PHONE", 600_000)
    crowd.advance(0.5)
    assert [set(reader.news()) for reader in readers] == [set(), {"@bob"}, set()]
    assert crowd.presence.changes(readers[0].feed, 0) == []
    # A small room that two of them share carries it all the same.
    open_room(crowd, "ann", "bob")
    crowd.presence.set(user("bob"), "PHONE", "unavailable", None)
    crowd.advance(0.5)
    assert [set(reader.news()) for reader in readers] == [{"@bob"}, {"@bob"}, set()]


def test_it_can_be_switched_off(household: Household) -> None:
    quiet = household.rerun(enabled=False)
    open_room(quiet, "ann", "bob")
    ann = Reader(quiet, "ann")
    quiet.presence.seen(user("bob"))
    quiet.presence.set(user("bob"), "PHONE", "online", "here")
    quiet.advance(1)
    assert ann.news() == {} and quiet.presence.changes(ann.feed, 0) == []
    assert quiet.wait(quiet.presence.status(user("ann"), user("bob"))) == {"presence": "offline"}


def test_status_is_for_who_shares_a_room(household: Household) -> None:
    open_room(household, "ann", "bob")
    household.presence.set(user("bob"), "PHONE", "online", "hello\0there")
    household.advance(2)
    told = household.wait(household.presence.status(user("ann"), user("bob")))
    assert told == {
        "presence": "online",
        "currently_active": True,
        "last_active_ago": 2000,
        "status_msg": "hello\0there",
    }
    assert household.wait(household.presence.status(user("bob"), user("ann"))) == {"presence": "offline"}
    assert household.wait(household.presence.status(user("cat"), user("cat"))) == {"presence": "offline"}
    for other in ("bob", "nobody"):
        with pytest.raises(Forbidden):
            household.wait(household.presence.status(user("cat"), user(other)))


def test_words_and_times_outlive_a_restart_and_who_does_not_come_back_is_told_to_be_gone(household: Household) -> None:
    open_room(household, "ann", "bob", "cat")
    for name in ("bob", "cat"):
        household.feed(name)
    household.presence.set(user("bob"), "PHONE", "online", "in a meeting")
    household.presence.set(user("cat"), "PHONE", "unavailable", None)
    household.advance(1)
    household.wait(household.presence.close())
    for name in ("bob", "cat"):
        household.town.hub.close_feed(household.feed(name))

    again = household.rerun()
    again.wait(again.presence.start())
    ann = Reader(again, "ann")
    told = again.wait(again.presence.status(user("ann"), user("bob")))
    assert told["status_msg"] == "in a meeting" and told["last_active_ago"] >= 1000
    again.feed("cat")
    again.presence.seen(user("cat"), "unavailable", "PHONE", 600_000)
    again.advance(RETURN_MS / 1000 + 11)
    assert {name: content["presence"] for name, content in ann.news().items()} == {"@bob": "offline"}
    again.wait(again.presence.close())
    assert [one.user_id for one in again.wait(again.town.database.run(rows.not_offline))] == [user("cat")]


def test_what_was_said_before_is_read_when_somebody_comes_back(household: Household) -> None:
    open_room(household, "ann", "bob")
    household.presence.set(user("bob"), "PHONE", "offline", "back on Monday")
    household.advance(1)
    household.wait(household.presence.close())
    again = household.rerun()
    again.feed("bob")
    ann = Reader(again, "ann")
    again.presence.seen(user("bob"), None, "PHONE", 0)
    again.advance(0.5)
    assert ann.news()["@bob"]["status_msg"] == "back on Monday"


def test_it_is_written_down_now_and_then(household: Household) -> None:
    household.presence.set(user("bob"), "PHONE", "online", "here")
    household.advance(11)
    saved = household.wait(household.town.database.run(rows.read, [user("bob"), user("nobody")]))
    assert [(one.user_id, one.state, one.status_msg) for one in saved.values()] == [(user("bob"), "online", "here")]


def test_a_closed_account_is_gone(household: Household) -> None:
    open_room(household, "ann", "bob")
    household.feed("bob")
    household.presence.set(user("bob"), "PHONE", "online", "here")
    household.advance(11)
    ann = Reader(household, "ann")
    household.wait(household.presence.account_deactivated(user("bob"), erase=False))
    household.advance(0.5)
    assert ann.news()["@bob"]["presence"] == "offline"
    household.advance(120)
    assert household.wait(household.town.database.run(rows.read, [user("bob")])) == {}


def test_nothing_runs_when_nobody_is_here(household: Household) -> None:
    household.presence.seen(user("bob"), None, "PHONE", 0)
    household.advance(200)
    assert household.timers.getDelayedCalls() == []


def test_an_empty_poll_costs_nearly_nothing(household: Household) -> None:
    open_room(household, "ann", "bob")
    feed = household.feed("ann")
    household.presence.seen(user("ann"), None, "PHONE", 0)
    household.advance(0.5)
    serial = household.town.hub.serial
    best = float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(100):
            household.presence.seen(user("ann"), None, "PHONE", 0)
            household.presence.changes(feed, serial)
        best = min(best, (time.perf_counter() - begun) / 100)
    assert best < 20e-6  # a few µs where nothing else runs


steps = st.lists(
    st.tuples(
        st.sampled_from(["sync", "say", "act", "look"]),
        st.sampled_from(["PHONE", "DESK"]),
        st.sampled_from(["online", "unavailable", "offline"]),
        st.integers(0, 400_000),
    ),
    max_size=30,
)


@given(steps)
def test_whatever_happens_the_answer_tells_truly_whether_others_see_a_difference(steps: list[Any]) -> None:
    person, now = Person("@ann:a.org"), 1
    shown = (person.state, person.currently_active)
    for verb, device, wish, later in steps:
        now += later
        match verb:
            case "sync":
                differs = person.sync(device, wish, now, 30_000)
            case "say":
                differs = person.say(device, wish, None, now)
            case "act":
                differs = person.act(now)
            case _:
                differs = person.look(now)
        assert differs is ((person.state, person.currently_active) != shown)
        shown = (person.state, person.currently_active)
        assert not person.currently_active or person.state == "online"
        # The moment before it is due, nothing has happened by itself.
        if now < person.due_ms - 1 and person.due_ms < 1 << 60:
            assert not person.look(person.due_ms - 1)


def test_settings_are_what_they_say() -> None:
    assert Presence().enabled and Presence().largest_crowd == 100

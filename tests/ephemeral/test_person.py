"""One person's presence, step by step."""

from __future__ import annotations

from homeserver.ephemeral.person import ACTIVE_MS, GONE_MS, IDLE_MS, NEVER, Person, Wish

PHONE, DESK = "PHONE", "DESK"


def shows(person: Person) -> tuple[Wish, bool]:
    return person.state, person.currently_active


def test_a_sync_that_says_nothing_counts_as_online_until_it_ends() -> None:
    person = Person("@ann:a.org")
    assert person.sync(PHONE, None, 1000, 30_000)
    assert shows(person) == ("online", True) and person.last_active_ms == 1000
    assert not person.sync(PHONE, None, 2000, 30_000)
    assert person.last_active_ms == 1000
    person.look(2000 + 30_000 + GONE_MS - 1)
    assert person.state == "online"
    assert person.look(2000 + 30_000 + GONE_MS)
    assert shows(person) == ("offline", False) and person.due_ms == NEVER


def test_without_activity_first_not_active_then_away() -> None:
    person = Person("@ann:a.org")
    person.sync(PHONE, None, 0, 0)
    now = 0
    seen = [shows(person)]
    while now < IDLE_MS + 20_000:
        now += 10_000
        if person.sync(PHONE, None, now, 0) or person.look(now):
            seen.append(shows(person))
    assert seen == [("online", True), ("online", False), ("unavailable", False)]
    assert person.act(now)
    assert shows(person) == ("online", True)


def test_due_is_never_late() -> None:
    person = Person("@ann:a.org")
    person.sync(PHONE, None, 0, 10 * IDLE_MS)
    assert person.due_ms == ACTIVE_MS
    assert not person.look(ACTIVE_MS - 1)
    assert person.look(ACTIVE_MS)
    assert person.due_ms == IDLE_MS
    assert person.look(IDLE_MS)
    assert person.due_ms == 10 * IDLE_MS + GONE_MS


def test_a_device_that_says_online_is_active_each_time() -> None:
    person = Person("@ann:a.org")
    assert person.sync(DESK, "online", 0, 30_000)
    for now in range(0, 2 * IDLE_MS, 20_000):
        assert not person.sync(DESK, "online", now, 30_000)
        assert not person.look(now)
    assert shows(person) == ("online", True)


def test_the_most_present_device_counts() -> None:
    person = Person("@ann:a.org")
    assert person.sync(PHONE, "unavailable", 0, 0)
    assert shows(person) == ("unavailable", False)
    assert person.sync(DESK, "online", 1, 0)
    assert not person.sync(PHONE, "unavailable", 2, 0)
    assert shows(person) == ("online", True)
    assert person.sync(DESK, "offline", 3, 0)
    assert shows(person) == ("unavailable", False)
    assert person.sync(PHONE, "offline", 4, 0)
    assert shows(person) == ("offline", False)
    assert not person.sync(PHONE, "offline", 5, 0)


def test_what_is_said_by_hand_holds_against_a_sync_that_says_nothing() -> None:
    person = Person("@ann:a.org")
    person.sync(PHONE, None, 0, 30_000)
    assert person.say(PHONE, "unavailable", "lunch", 10)
    assert not person.sync(PHONE, None, 20, 30_000)
    assert shows(person) == ("unavailable", False) and person.status_msg == "lunch"
    assert not person.say(PHONE, "unavailable", "lunch", 30)
    assert person.say(PHONE, "unavailable", "dinner", 40)
    assert person.act(50)
    assert shows(person) == ("online", True)
    assert person.say(PHONE, "offline", None, 60)
    assert shows(person) == ("offline", False) and person.status_msg is None
    assert person.sync(PHONE, None, 70, 0)
    assert shows(person) == ("online", True)


def test_what_is_said_by_hand_holds_against_a_sync_that_is_to_show_nobody() -> None:
    """Which "is not marked as being online", and not marked as offline either. COMPAT Sytest."""
    person = Person("@ann:a.org")
    assert person.say(PHONE, "unavailable", None, 0)
    assert not person.sync(PHONE, "offline", 10, 30_000)
    assert shows(person) == ("unavailable", False)
    assert not person.look(GONE_MS - 1)
    assert person.look(GONE_MS)  # it did not count as being here either
    assert shows(person) == ("offline", False)


def test_acting_while_away_from_every_device_is_only_noted() -> None:
    person = Person("@ann:a.org")
    assert not person.act(5)
    assert person.last_active_ms == 5 and shows(person) == ("offline", False)


def test_said_without_ever_syncing_it_ends_by_itself() -> None:
    person = Person("@ann:a.org")
    assert person.say(PHONE, "online", None, 0)
    assert person.look(GONE_MS)
    assert shows(person) == ("offline", False)


def test_after_a_new_start_the_first_sign_of_life_counts() -> None:
    person = Person("@ann:a.org")
    person.was_here("online", 60_000)
    assert shows(person) == ("online", False)
    assert person.sync(PHONE, "unavailable", 10, 0)
    assert shows(person) == ("unavailable", False)
    other = Person("@bob:a.org")
    other.was_here("unavailable", 60_000)
    assert not other.look(59_999)
    assert other.look(60_000) and shows(other) == ("offline", False)


def test_who_leaves_for_good_is_gone() -> None:
    person = Person("@ann:a.org")
    person.say(PHONE, "online", "here", 0)
    assert person.leave()
    assert shows(person) == ("offline", False) and person.status_msg is None
    assert not person.leave()

"""A person of another server: nothing but what that server says, until it has been silent for long."""

from __future__ import annotations

from homeserver.ephemeral.person import NEVER, Wish
from homeserver.ephemeral.stranger import SILENCE_MS, Said, Stranger

NOW = 1_700_000_000_000


def seen(person: Stranger) -> tuple[Wish, bool, str | None]:
    return person.state, person.currently_active, person.status_msg


def test_only_differences_are_worth_telling() -> None:
    person = Stranger("@bob:b.example")
    assert not person.hear(Said("offline"), NOW)
    assert person.hear(Said("online", True, "hi", 0), NOW)
    assert seen(person) == ("online", True, "hi") and person.last_active_ms == NOW
    assert not person.hear(Said("online", True, "hi", 70), NOW + 10), "only time has passed"
    assert person.last_active_ms == NOW - 60
    assert person.hear(Said("online", False, "hi"), NOW) and person.last_active_ms == NOW - 60
    assert person.hear(Said("unavailable", True), NOW)
    assert seen(person) == ("unavailable", False, None), "who is away is not active"


def test_silence_is_absence() -> None:
    person = Stranger("@bob:b.example")
    person.hear(Said("online", True), NOW)
    person.hear(Said("online", True), NOW + 1000)
    assert not person.look(NOW + 999 + SILENCE_MS)
    assert person.look(NOW + 1000 + SILENCE_MS) and seen(person) == ("offline", False, None)
    assert person.due_ms == NEVER and not person.look(NOW + 10 * SILENCE_MS)


def test_what_a_stranger_does_here_says_nothing() -> None:
    person = Stranger("@bob:b.example")
    assert not person.act(NOW) and seen(person) == ("offline", False, None)


def test_ages_stay_within_time() -> None:
    person = Stranger("@bob:b.example")
    for ago, at in ((-1, NOW), (NOW + 1, 0), (2**63, 0)):
        person.hear(Said("online", last_active_ago_ms=ago), NOW)
        assert person.last_active_ms == at

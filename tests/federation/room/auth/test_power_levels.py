"""Reading power levels, in all the ways that they have been written."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.auth import CREATOR_LEVEL, PowerLevels, room_creators
from federation.room.auth.power_levels import read_level
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.federation.room.history import make_event

ALL = list(ROOM_VERSIONS.values())
ALICE, BOB, CAROL = "@alice:a", "@bob:b", "@carol:c"


def levels(version: RoomVersion, content: dict[str, Any] | None, **create: Any) -> PowerLevels:
    first = make_event(version, "CREATE", "m.room.create", ALICE, create or {"creator": ALICE}, state_key="")
    if content is None:
        return PowerLevels.parse(version, first, None)
    return PowerLevels.parse(
        version, first, make_event(version, "POWER", "m.room.power_levels", ALICE, content, state_key="")
    )


@pytest.mark.parametrize("version", ALL, ids=str)
@pytest.mark.parametrize("content", [None, {}])
def test_defaults(version: RoomVersion, content: dict[str, Any] | None) -> None:
    power = levels(version, content)
    assert (power.ban, power.kick, power.redact, power.invite) == (50, 50, 50, 0)
    assert power.event("m.room.message", False) == 0
    assert power.event("m.room.topic", True) == 50
    assert power.notifications("room") == 50
    assert power.user(BOB) == 0
    without_an_event = 100 if content is None else 0
    assert power.user(ALICE) == (CREATOR_LEVEL if version.privileged_creators else without_an_event)


@pytest.mark.parametrize("version", ALL, ids=str)
def test_what_is_given(version: RoomVersion) -> None:
    power = levels(
        version,
        {
            "users": {BOB: 7},
            "users_default": 1,
            "events": {"m.room.topic": 2, "m.zero": 0},
            "events_default": 3,
            "state_default": 4,
            "ban": 5,
            "kick": 6,
            "redact": 8,
            "invite": 9,
            "notifications": {"room": 10},
        },
    )
    assert (power.user(BOB), power.user(CAROL)) == (7, 1)
    assert (power.event("m.room.topic", True), power.event("m.room.topic", False)) == (2, 2)
    assert (power.event("m.zero", True), power.event("other", True), power.event("other", False)) == (0, 4, 3)
    assert (power.ban, power.kick, power.redact, power.invite) == (5, 6, 8, 9)
    assert (power.notifications("room"), power.notifications("other")) == (10, 50)


@pytest.mark.parametrize("version", ALL, ids=str)
def test_creators(version: RoomVersion) -> None:
    create = make_event(
        version,
        "CREATE",
        "m.room.create",
        ALICE,
        {"creator": BOB, "additional_creators": [CAROL, 5]},
        state_key="",
    )
    expected = {ALICE} if version.creator_is_sender else {BOB}
    assert room_creators(version, create) == (expected | {CAROL} if version.privileged_creators else expected)


LEVELS: list[tuple[object, str, int | None]] = [
    (0, "all", 0),
    (-50, "all", -50),
    (2**53, "all", 2**53),
    (True, "all", None),
    (None, "all", None),
    ([], "all", None),
    ({}, "all", None),
    ("100", "before 10", 100),
    ("000100", "before 10", 100),
    ("-100", "before 10", -100),
    ("+100", "before 10", 100),
    (" 100 ", "before 10", 100),
    ("\t+0050\n", "before 10", 50),
    ("", "all", None),
    ("+", "all", None),
    ("--1", "all", None),
    ("- 1", "all", None),
    ("1_000", "all", None),
    ("0x10", "all", None),
    ("1.5", "all", None),
    ("1e3", "all", None),
    ("\u0661\u0662", "all", None),
    ("9" * 5000, "all", None),
    (50.57, "before 6", 50),
    (-50.57, "before 6", -50),
    (5.114698e4, "before 6", 51146),
    (math.inf, "all", None),
    (math.nan, "all", None),
]


@pytest.mark.parametrize("version", ALL, ids=str)
@pytest.mark.parametrize(("value", "when", "expected"), LEVELS)
def test_levels_as_they_were_written(version: RoomVersion, value: object, when: str, expected: int | None) -> None:
    reads = {
        "all": True,
        "before 10": not version.integer_power_levels,
        "before 6": not version.strict_json,
    }
    assert read_level(version, value) == (expected if reads[when] else None)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = ("users", "events", "notifications", "users_default", "ban", "state_default", "invite")


@given(st.sampled_from(ALL), st.dictionaries(st.sampled_from(NAMES), JSON))
def test_anything_can_be_read(version: RoomVersion, content: dict[str, Any]) -> None:
    event = make_event(version, "POWER", "m.room.power_levels", ALICE, {}, state_key="")
    event.parsed_content = content
    power = PowerLevels.parse(version, None, event)
    for level in (power.user(BOB), power.event("m.room.topic", True), power.ban, power.notifications("room")):
        assert isinstance(level, int)

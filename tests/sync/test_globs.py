"""Globs as filters have them, against regular expressions."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.sync.globs import Glob, Names

few_letters = st.text("ab.*", max_size=12)


@given(pattern=few_letters.filter(lambda text: "*" in text), name=st.text("ab.", max_size=20))
def test_a_glob_matches_what_the_regular_expression_does(pattern: str, name: str) -> None:
    expression = ".*".join(re.escape(piece) for piece in pattern.split("*"))
    assert Glob(pattern).matches(name) is (re.fullmatch(expression, name) is not None)


def test_many_stars_take_no_time() -> None:
    glob = Glob("*a" * 500 + "b*")
    begun = time.perf_counter()
    assert not glob.matches("a" * 500)
    assert time.perf_counter() - begun < 0.1


@pytest.mark.parametrize(
    ("wanted", "unwanted", "admitted", "refused"),
    [
        (None, None, ["m.room.message"], []),
        (["*"], None, ["m.room.message", ""], []),
        ([], None, [], ["m.room.message"]),
        (["m.room.*"], None, ["m.room.message", "m.room."], ["m.roo", "org.m.room.x"]),
        (["*.message", "m.tag"], None, ["m.room.message", "m.tag"], ["m.room.name"]),
        (None, ["m.room.*"], ["m.tag"], ["m.room.name"]),
        (["m.*"], ["m.room.*", "m.tag"], ["m.receipt"], ["m.room.name", "m.tag", "x"]),
        (["*"], ["*"], [], ["m.tag"]),
        (["m.tag"], ["m.tag"], [], ["m.tag"]),
    ],
)
def test_what_is_not_wanted_wins(
    wanted: list[str] | None, unwanted: list[str] | None, admitted: list[str], refused: list[str]
) -> None:
    names = Names.patterns(wanted, unwanted)
    for _ in range(2):  # the second time from memory
        assert [name for name in [*admitted, *refused] if names.admit(name)] == admitted


def test_exact_names_know_no_stars() -> None:
    names = Names.exact(["@*:a.org"], None)
    assert names.admit("@*:a.org") and not names.admit("@x:a.org")


def test_memory_of_names_is_bounded() -> None:
    names = Names.patterns(["a*"], None)
    for number in range(5000):
        assert names.admit(f"a{number}") and not names.admit(f"b{number}")
    assert len(names._known) <= 1000

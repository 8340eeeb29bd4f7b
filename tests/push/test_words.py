"""Words in texts, held against what a regular expression finds."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.push.facts import parse_path
from homeserver.push.words import WordPattern


def slowly(pattern: str, text: str) -> bool:
    """The same by a regular expression, as the specification tells it."""
    inner = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern.lower())
    border = r"(?:(?<![a-z0-9_])|(?![a-z0-9_]))"
    return re.search(border + inner + border, text.lower(), re.DOTALL) is not None


@given(st.text("ab*?_-. ", min_size=1, max_size=7), st.text("abAB_-. \n", max_size=14))
def test_as_a_regular_expression_would(pattern: str, text: str) -> None:
    if set(pattern) <= {"*"} or "\n" in pattern:
        return
    assert WordPattern.glob(pattern).is_in(text) == slowly(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("ex*ple", "An example event.", True),
        ("ex*ple", "exple", True),
        ("ex*ple", "An exciting triple-whammy", True),
        ("cake", "Cakes", False),
        ("cake", "cake", True),
        ("ca?e", "I like CAKE!", True),
        ("*", "anything", True),
        ("", "anything", False),
    ],
)
def test_examples(pattern: str, text: str, fits: bool) -> None:
    assert WordPattern.glob(pattern).is_in(text) is fits


def test_a_name_is_no_pattern() -> None:
    assert not WordPattern.literal("a*b").is_in("a and b")
    assert WordPattern.literal("a*b").is_in("say A*B loud")


def test_many_stars_take_no_longer() -> None:
    """It would take longer than anybody waits if beginnings were tried one by one."""
    assert not WordPattern.glob("a*" * 400 + "b").is_in("a " * 30_000)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("content.body", ("content", "body")),
        (r"content.m\.mentions.room", ("content", "m.mentions", "room")),
        (r"a\\.b", ("a\\", "b")),
        (r"a\b", (r"a\b",)),
        ("", ("",)),
    ],
)
def test_paths(text: str, path: Any) -> None:
    assert parse_path(text) == path

"""Gives the tests of this folder their rounds: all that play share the time."""

from __future__ import annotations

import pytest

from tests.fuzz import rounds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rounds.share_among(sum("play" in getattr(item, "fixturenames", ()) for item in items))


@pytest.fixture
def play() -> rounds.Play:
    """Calls a check with one source of chance after the other, for this test's share of the time."""
    return rounds.play

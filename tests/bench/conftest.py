"""Benchmarks measure servers as they are when they are started by the command, each from nothing."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def nursery() -> None:
    """In the place of the tests' own."""

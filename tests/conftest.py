"""What all tests share. Fixtures live in `tests/fixtures_*.py`, one file per subject, and are found by that name."""

from __future__ import annotations

import gc
from pathlib import Path

# First of all: whoever imports structlog before it gets tracebacks with every local variable in them, and one that has
# a whole house among its variables takes hours and all memory to print.
from homeserver.observe.log import structlog  # isort: split

import hypothesis
import pytest

from homeserver.reactor import install_reactor

assert structlog.dev.default_exception_formatter is structlog.dev.plain_traceback

# Before anything imports a reactor: the tests run on the one that the server runs on.
install_reactor()

hypothesis.settings.register_profile("everyday", deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("everyday")

pytest_plugins = [f"tests.{file.stem}" for file in sorted(Path(__file__).parent.glob("fixtures_*.py"))]
pytest.register_assert_rewrite(*pytest_plugins)  # they import each other


def pytest_collection_finish() -> None:
    """What was collected stays to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()

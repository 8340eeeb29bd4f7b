"""What all tests share. Fixtures live in `tests/fixtures_*.py`, one file per subject, and are found by that name."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from homeserver.reactor import install_reactor

# Before anything imports a reactor: the tests run on the one that the server runs on.
install_reactor()

hypothesis.settings.register_profile("everyday", deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("everyday")

pytest_plugins = [f"tests.{file.stem}" for file in sorted(Path(__file__).parent.glob("fixtures_*.py"))]
pytest.register_assert_rewrite(*pytest_plugins)  # they import each other

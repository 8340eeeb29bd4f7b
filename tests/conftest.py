"""What all tests share. Fixtures live in `tests/fixtures_*.py`, one file per subject, and are named here."""

from __future__ import annotations

from pathlib import Path

import hypothesis

hypothesis.settings.register_profile("everyday", deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("everyday")

#: Named by module, so that every test file finds the fixtures without importing them.
pytest_plugins = [f"tests.{file.stem}" for file in sorted(Path(__file__).parent.glob("fixtures_*.py"))]

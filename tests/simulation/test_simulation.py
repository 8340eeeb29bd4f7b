"""Some seeds of the simulation, and that a seed is the same each time."""

from __future__ import annotations

import pytest

from tests.simulation.simulation import run_seed

SEEDS = range(1, 25)


@pytest.mark.parametrize("seed", SEEDS)
def test_seed(seed: int) -> None:
    outcome = run_seed(seed)
    assert not outcome.faults, f"make simulate SEED={seed}"


def test_a_seed_is_the_same_each_time() -> None:
    first, second = run_seed(4711), run_seed(4711)
    assert "\n".join(first.story).encode() == "\n".join(second.story).encode()
    assert (first.digest, first.steps) == (second.digest, second.steps)

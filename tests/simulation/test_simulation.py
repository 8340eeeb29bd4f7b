"""Some seeds of the simulation, that a seed is the same each time, and that known mistakes are found."""

from __future__ import annotations

import pytest

from tests.simulation.planted import PLANTED
from tests.simulation.simulation import run_seed

SEEDS = range(1, 23)


@pytest.mark.parametrize("seed", SEEDS)
def test_seed(seed: int) -> None:
    outcome = run_seed(seed)
    assert not outcome.faults, f"make simulate SEED={seed}"


def test_a_seed_is_the_same_each_time() -> None:
    first, second = run_seed(4711), run_seed(4711)
    assert "\n".join(first.story).encode() == "\n".join(second.story).encode()
    assert (first.digest, first.steps) == (second.digest, second.steps)


@pytest.mark.parametrize(
    "mistake, seed", [("off-by-one", 10002), ("soft-failed-extremity", 10012), ("lost-catch-up", 10005)]
)
def test_a_planted_mistake_is_found(mistake: str, seed: int) -> None:
    assert not run_seed(seed).faults
    assert run_seed(seed, sabotage=PLANTED[mistake]).faults

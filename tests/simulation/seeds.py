"""Many seeds, in as many processes as there are cores."""

from __future__ import annotations

from homeserver.observe.log import structlog  # isort: split

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from attrs import frozen

from homeserver.reactor import install_reactor

assert structlog
install_reactor()


@frozen
class Ran:
    """A seed that was run."""

    seed: int
    digest: str
    faults: tuple[str, ...]
    cpu_s: float


def run_one(seed: int, planted: str | None = None) -> Ran:
    """`planted`: with which of the known mistakes (`tests.simulation.planted`)."""
    from tests.simulation.planted import PLANTED
    from tests.simulation.simulation import run_seed

    began = time.process_time()
    outcome = run_seed(seed, sabotage=None if planted is None else PLANTED[planted])
    return Ran(seed, outcome.digest, tuple(outcome.faults), time.process_time() - began)


def run_many(seeds: Iterable[int], jobs: int, planted: str | None = None) -> Iterator[Ran]:
    """Run them; in their order, each as soon as it is there."""
    work = partial(run_one, planted=planted)
    if jobs < 2:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, seeds)

"""What an operation costs: processor time of this process, of its main thread, and of PostgreSQL's processes.

Clocks on the wall say little on a shared machine; processor time says what the server would cost. It is still noisy
(caches, frequency, neighbours), so everything is measured in several rounds, of which the median counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from attrs import define, field, frozen

ROUNDS = 5


@frozen
class Cost:
    """Of one operation, in microseconds."""

    process_us: float
    """All threads of this process."""
    main_us: float
    """The thread that would be the reactor's."""
    database_us: float = 0.0
    """PostgreSQL's processes together."""

    @property
    def all_us(self) -> float:
        return self.process_us + self.database_us


@define
class Meter:
    """Adds up what happens inside `running`, in one round after the other. `servers`: pids of PostgreSQL servers."""

    servers: Sequence[int] = ()
    _rounds: list[Cost] = field(factory=list)
    _process_ns: int = 0
    _main_ns: int = 0
    _database_us: float = 0.0
    _operations: int = 0

    @contextmanager
    def running(self, operations: int = 1) -> Iterator[None]:
        """Count what is done inside as so many operations."""
        database, process, main = tree_us(self.servers), time.process_time_ns(), time.thread_time_ns()
        yield
        self._main_ns += time.thread_time_ns() - main
        self._process_ns += time.process_time_ns() - process
        self._database_us += tree_us(self.servers) - database
        self._operations += operations

    def end_round(self) -> None:
        done = self._operations * 1000
        self._rounds.append(Cost(self._process_ns / done, self._main_ns / done, self._database_us / self._operations))
        self._process_ns = self._main_ns = self._operations = 0
        self._database_us = 0.0

    @property
    def cost(self) -> Cost:
        """The median of the rounds so far."""
        rounds = self._rounds
        return Cost(
            median(one.process_us for one in rounds),
            median(one.main_us for one in rounds),
            median(one.database_us for one in rounds),
        )


def time_of(operation: Callable[[], object], times: int, rounds: int = ROUNDS) -> Cost:
    """What a function costs that needs nothing but the processor."""
    meter = Meter()
    operation()
    for _ in range(rounds):
        with meter.running(times):
            for _ in range(times):
                operation()
        meter.end_round()
    return meter.cost


def tree_us(pids: Sequence[int]) -> float:
    """Processor time of processes and their living children."""
    return sum(_run_ns(one) for pid in pids for one in (pid, *_children(pid))) / 1000


def _run_ns(pid: int) -> int:
    # The scheduler's own count, in nanoseconds: `stat` has ticks of 10 ms. It is of the main thread, which is the only
    # one that PostgreSQL's processes have.
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


@contextmanager
def calm_collector() -> Iterator[None]:
    """The garbage collector set as the server sets it once it runs (`homeserver.app.run`)."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()

"""Figures about a running server, kept so cheaply that every request can afford them.

Hot paths add to plain numbers. What others count already (events, waiting syncs, queue, caches) is not counted
twice: they register a function that is asked when somebody scrapes. Prometheus' text form, and the library that
writes it, come into play only then (`homeserver.observe.exposition`): its import costs as much as 5 % of a start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
from attrs import Factory, define

#: Upper bounds of the latency buckets, in seconds. Long polls end up in the last ones.
BOUNDS: Sequence[float] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: Methods that are told apart; strangers can send any word.
METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"))

#: Gives the figure when asked; with a label, one figure for each value of the label.
Reading = Callable[[], float | Mapping[str, float]]


@define
class Histogram:
    """How many observations fell into which bucket; the last one has no upper bound."""

    bounds: Sequence[float] = BOUNDS
    counts: list[int] = Factory(lambda self: [0] * (len(self.bounds) + 1), takes_self=True)
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Figure(msgspec.Struct, frozen=True):
    """One thing to ask for at each scrape."""

    kind: Literal["counter", "gauge"]
    name: str
    doc: str
    read: Reading
    label: str | None


@define
class Metrics:
    """All figures of one server. Built once, handed to whoever has something to count."""

    answers: dict[tuple[str, str, int], int] = Factory(dict)
    """Number of answers by (method, route, status)."""
    latencies: dict[str, Histogram] = Factory(dict)
    """Seconds from a request's first byte to its answer, by route."""
    figures: list[Figure] = Factory(list)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is the path's pattern, never the path itself: there are too many."""
        key = (method if method in METHODS else "other", route, status)
        self.answers[key] = self.answers.get(key, 0) + 1
        histogram = self.latencies.get(route)
        if histogram is None:
            histogram = self.latencies[route] = Histogram()
        histogram.observe(seconds)

    def counter(self, name: str, doc: str, read: Reading, *, label: str | None = None) -> None:
        """Register a figure that only grows. `name` without the `guildhall_` in front and the `_total` behind."""
        self.figures.append(Figure("counter", name, doc, read, label))

    def gauge(self, name: str, doc: str, read: Reading, *, label: str | None = None) -> None:
        """Register a figure that goes up and down."""
        self.figures.append(Figure("gauge", name, doc, read, label))

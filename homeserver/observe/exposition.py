"""The figures in Prometheus' text form. Imported at the first scrape, because prometheus_client is slow to import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from attrs import frozen
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0, generate_latest
from prometheus_client.registry import Collector

from homeserver.observe.metrics import Figure, Metrics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0


@frozen(eq=False)
class _Scrape(Collector):
    """Turns a server's figures into Prometheus' families, afresh at each scrape."""

    metrics: Metrics

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "guildhall_http_requests", "Answered requests.", labels=("method", "route", "status")
        )
        for (method, route, status), count in sorted(self.metrics.answers.items()):
            answers.add_metric((method, route, str(status)), count)
        yield answers

        seconds = HistogramMetricFamily("guildhall_http_request_seconds", "Time to answer.", labels=("route",))
        for route, histogram in sorted(self.metrics.latencies.items()):
            bounds = [*map(str, histogram.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            seconds.add_metric((route,), buckets, histogram.total)
        yield seconds

        for figure in self.metrics.figures:
            yield _family(figure)


def _family(figure: Figure) -> Metric:
    make = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    read = figure.read()
    labels = (figure.label,) if figure.label is not None else ()
    family = make(f"guildhall_{figure.name}", figure.doc, labels=labels)
    for label, value in sorted(read.items()) if isinstance(read, Mapping) else [(None, read)]:
        family.add_metric((label,) if label is not None else (), value)
    return family


def exposition(metrics: Metrics) -> bytes:
    """All figures of the server, with those of its process (CPU, memory, open files) and of Python."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Scrape(metrics))
    return generate_latest(registry)

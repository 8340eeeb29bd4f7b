"""Figures in Prometheus' text form, judged by Prometheus' own parser."""

from __future__ import annotations

import secrets

from prometheus_client.parser import text_string_to_metric_families

from homeserver.observe.exposition import exposition
from homeserver.observe.metrics import Histogram, Metrics
from tests.fixtures_server import ServerProcess

ROUTE = "/_matrix/client/v3/sync"


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(metrics).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_answers_and_latencies() -> None:
    metrics = Metrics()
    for status, seconds in [(200, 0.001), (200, 0.003), (500, 0.3), (200, 90.0)]:
        metrics.answered("GET", ROUTE, status, seconds)
    samples = _samples(metrics)
    count = "guildhall_http_requests_total"
    assert samples[count, (("method", "GET"), ("route", ROUTE), ("status", "200"))] == 3
    assert samples[count, (("method", "GET"), ("route", ROUTE), ("status", "500"))] == 1
    bucket = "guildhall_http_request_seconds_bucket"
    below = [
        samples[bucket, (("le", le), ("route", ROUTE))] for le in ("0.001", "0.0025", "0.005", "0.5", "60.0", "+Inf")
    ]
    assert below == [1, 1, 2, 3, 3, 4], "a value on the bound is below it, as Prometheus has it"
    assert samples["guildhall_http_request_seconds_count", (("route", ROUTE),)] == 4
    assert abs(samples["guildhall_http_request_seconds_sum", (("route", ROUTE),)] - 90.304) < 1e-6


def test_what_others_count_is_asked_for_at_each_scrape() -> None:
    metrics = Metrics()
    waiting = [1, 2, 3]
    metrics.gauge("waiting_syncs", "Long polls.", lambda: len(waiting))
    metrics.counter("events", "Events.", lambda: {"local": 5, "remote": 7}, label="origin")
    assert _samples(metrics)["guildhall_waiting_syncs", ()] == 3
    waiting.clear()
    samples = _samples(metrics)
    assert samples["guildhall_waiting_syncs", ()] == 0
    assert samples["guildhall_events_total", (("origin", "remote"),)] == 7


def test_the_process_is_in_it() -> None:
    names = {name for name, _ in _samples(Metrics())}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} <= names


def test_histogram_counts_everything_once() -> None:
    histogram = Histogram()
    for value in (0.0, 0.001, 0.5, 1000.0):
        histogram.observe(value)
    assert sum(histogram.counts) == 4
    assert histogram.counts[-1] == 1


def test_of_a_real_server(shared_server: ServerProcess) -> None:
    alice = shared_server.register(f"alice-{secrets.token_hex(4)}")
    alice.say(alice.create_room(), "hello")
    answer = shared_server.request("GET", "/_guildhall/metrics")
    assert answer.status == 200
    families = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert {"guildhall_http_requests", "guildhall_http_request_seconds", "guildhall_stream_position"} <= families
    assert {"guildhall_waiting_syncs", "guildhall_database_queue", "process_cpu_seconds"} <= families
    assert b'method="POST",route="/_matrix/client/v3/createRoom",status="200"' in answer.body

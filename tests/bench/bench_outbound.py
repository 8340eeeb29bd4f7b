"""What asking another server costs: what HTTP takes of it, and the whole way over TLS to a server on loopback."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.testing import StringTransport

from federation.outbound.connection import PeerConnection, Question
from tests.bench.meter import ROUNDS, calm_collector, time_of
from tests.bench.table import Table
from tests.federation.outbound.test_https import Stage, ask
from tests.fixtures_tls import Authority

PATH = "/_matrix/federation/v1/send/123"
HEADERS = {
    "User-Agent": "Guildhall/1",
    "Accept": "application/json",
    "Content-Type": "application/json",
    "Authorization": f'X-Matrix origin="a.example",destination="b.example",key="ed25519:auto",sig="{"s" * 86}"',
}
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    b'Content-Length: 11\r\n\r\n{"pdus":{}}'
)
SIZES = {"200 bytes": 200, "35 kB, 50 events": 35_000}
TIMES = 500


class _Nowhere(StringTransport):
    def write(self, data: bytes) -> None: ...


@pytest_twisted.async_yield_fixture
async def stage(authority: Authority) -> AsyncIterator[Stage]:
    stage = Stage(authority)
    yield stage
    await stage.close()


@pytest.mark.timeout(0)
@pytest_twisted.ensureDeferred
async def test_outbound(stage: Stage) -> None:
    table = Table("A PUT to another server, over a connection that is open", ["CPU µs", *SIZES])
    with calm_collector():
        table.add("HTTP alone", *(time_of(alone(size), 2_000).process_us for size in SIZES.values()))
        costs = [await cost_of(whole_way(stage, size)) for size in SIZES.values()]
        table.add("with TLS, sockets and the server at the far end", *costs)
    table.print()


def alone(size: int) -> Callable[[], object]:
    connection = PeerConnection()
    connection.makeConnection(_Nowhere())
    question = Question("PUT", PATH, "b.example", HEADERS, b"x" * size, 10_000)

    def once() -> None:
        answer: Any = connection.ask(question)
        connection.dataReceived(ANSWER)
        assert answer.result.status == 200

    return once


def whole_way(stage: Stage, size: int) -> Callable[[], Awaitable[object]]:
    peer, transport = stage.peer(), stage.transport()
    peer.script = lambda heard: ANSWER
    body = b"x" * size
    return lambda: transport.send(ask(PATH, "PUT", headers=HEADERS, body=body))


async def cost_of(operation: Callable[[], Awaitable[object]]) -> float:
    await operation()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for _ in range(TIMES):
            await operation()
        rounds.append((time.process_time_ns() - started) / TIMES / 1000)
    return median(rounds)

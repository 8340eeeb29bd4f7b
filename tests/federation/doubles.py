"""Doubles for tests of federation: time, a network in memory, and work that ends at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
import orjson
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from federation.outbound.transport import Request, Response, Unreachable

T = TypeVar("T")

START_MS = 1_700_000_000_000


class Calendar(Clock):
    """Timers and a date that move together."""

    def now_ms(self) -> int:
        return START_MS + int(self.seconds() * 1000)

    def pass_ms(self, milliseconds: int) -> None:
        self.advance(milliseconds / 1000)


def outcome(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of work that has nothing to wait for, or what it raises."""
    results = begin(work)
    assert results, "it still waits"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


def begin(work: Coroutine[Deferred[Any], Any, Any]) -> list[Any]:
    """Begin work; its result, or a Failure, will stand in the list once there is one."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    return results


Server = Callable[[Request], Response]


@define
class Network:
    """A `Transport` in memory. `servers` answer; whoever is not there is unreachable. All requests are written down."""

    servers: dict[str, Server] = field(factory=dict)
    requests: list[Request] = field(factory=list)
    held: list[Deferred[None]] | None = None
    """Set to a list, and every request waits for its Deferred in it."""

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        if self.held is not None:
            gate: Deferred[None] = Deferred()
            self.held.append(gate)
            await gate
        server = self.servers.get(request.destination)
        if server is None:
            raise Unreachable(request.destination, "nobody is there")
        return await pour(request, server(request))

    async def close(self) -> None:
        self.servers.clear()

    def asked(self) -> list[tuple[str, str]]:
        """Who was asked for what, since the last time."""
        asked = [(request.destination, request.path) for request in self.requests]
        self.requests.clear()
        return asked


async def pour(request: Request, response: Response) -> Response:
    """What a transport does with an answer to a request that has a sink."""
    if request.sink is None or not 200 <= response.status < 300:
        return response
    request.sink.begin(response.headers)
    await request.sink.write(response.body)
    return msgspec.structs.replace(response, body=b"")


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, headers or {}, body if isinstance(body, bytes) else orjson.dumps(body))

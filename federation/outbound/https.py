"""The real transport: HTTPS to wherever a server name leads.

    name ── resolve ── an idle connection to there? ──yes──> ask ──> answer
                                    └──no──> connect ─────────┘

A peer that is slow or dead holds up nobody but its own requests: each has a time limit, and each destination a few
connections at once, behind which the rest of its requests wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from federation.discovery.address import Address
from federation.discovery.ladder import Resolver
from federation.outbound.connection import ConnectionEnded, PeerConnection
from federation.outbound.dial import Dialer
from federation.outbound.http1 import BadHttp, write_request
from federation.outbound.pool import Pool
from federation.outbound.transport import BadAnswer, Request, Response, Unreachable

AT_ONCE = 8
"""Requests to one destination that are under way at once."""
MOST_WAITING = 200
"""Requests to one destination that wait for those; one more is `Unreachable`."""

_REPEATABLE = frozenset({"GET", "PUT"})
"""May be sent twice without harm: PUT carries a transaction id, or is idempotent otherwise."""


@define(eq=False)
class _Destination:
    """The requests of one destination that are under way."""

    slots: DeferredSemaphore = field(factory=lambda: DeferredSemaphore(AT_ONCE))
    requests: int = 0


@define(eq=False)
class HttpsTransport:
    """Implements `Transport` over TLS connections, which are kept open for a while."""

    _resolver: Resolver
    _dialer: Dialer
    _clock: IReactorTime
    _user_agent: str
    _pool: Pool = field(init=False)
    _destinations: dict[str, _Destination] = field(factory=dict, init=False)
    _running: set[Deferred[Response]] = field(factory=set, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = Pool(self._clock)

    @property
    def idle_connections(self) -> int:
        return len(self._pool)

    async def send(self, request: Request) -> Response:
        if self._closed:
            raise Unreachable(request.destination, "this server is going down")
        sending = Deferred.fromCoroutine(self._send_in_turn(request))
        self._running.add(sending)
        sending.addTimeout(request.timeout_s, self._clock)
        try:
            return await sending
        except DeferredTimeout:
            raise Unreachable(request.destination, f"no answer within {request.timeout_s:g} s") from None
        except CancelledError:
            if self._closed:
                raise Unreachable(request.destination, "this server is going down") from None
            raise
        finally:
            self._running.discard(sending)

    async def close(self) -> None:
        self._closed = True
        for sending in list(self._running):
            sending.cancel()
        self._pool.close()

    async def _send_in_turn(self, request: Request) -> Response:
        name = request.destination
        destination = self._destinations.setdefault(name, _Destination())
        if destination.requests >= AT_ONCE + MOST_WAITING:
            raise Unreachable(name, "too many requests wait for it already")
        destination.requests += 1
        try:
            async with _Slot(destination.slots):
                return await self._send(request)
        finally:
            destination.requests -= 1
            if not destination.requests:
                del self._destinations[name]

    async def _send(self, request: Request) -> Response:
        addresses = await self._resolver.resolve(request.destination)
        key = frozenset(addresses)
        waiting = self._pool.take(key)
        if waiting is not None:
            try:
                return await self._ask(waiting, addresses, request)
            except ConnectionEnded as ended:
                # It was closed for being idle just as we began to write: that is nobody's fault.
                if ended.begun or request.method not in _REPEATABLE:
                    raise Unreachable(request.destination, str(ended)) from None
        connection, _ = await self._dialer.connect_any(request.destination, addresses)
        try:
            return await self._ask(connection, addresses, request)
        except ConnectionEnded as ended:
            raise Unreachable(request.destination, str(ended)) from None

    async def _ask(self, connection: PeerConnection, addresses: Sequence[Address], request: Request) -> Response:
        headers: Mapping[str, str] = {"User-Agent": self._user_agent, **request.headers}
        # All addresses of a server name differ only in host and port.
        data = write_request(request.method, request.path, addresses[0].host_header, headers, request.body)
        try:
            response = await connection.ask(data, request.max_bytes)
        except BadHttp as error:
            raise BadAnswer(request.destination, str(error)) from None
        self._pool.put(frozenset(addresses), connection)
        return response


@define(eq=False)
class _Slot:
    """`async with` for a `DeferredSemaphore`."""

    _slots: DeferredSemaphore

    async def __aenter__(self) -> None:
        await self._slots.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()

"""The real transport: HTTPS to wherever a server name leads.

name ── its turn ── resolve ── connect, or take a connection that waits ── ask ──> answer
"""

from __future__ import annotations

from functools import partial

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from federation.discovery.ladder import Resolver
from federation.outbound.connection import Question
from federation.outbound.dial import Dialer
from federation.outbound.exchange import Exchange
from federation.outbound.transport import Request, Response
from federation.outbound.turns import Turns


@define(eq=False)
class HttpsTransport:
    """Implements `Transport` over TLS connections, which are kept open for a while."""

    _resolver: Resolver
    _dialer: Dialer
    _clock: IReactorTime
    _user_agent: str
    _turns: Turns = field(init=False)
    _exchange: Exchange = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = Turns(self._clock)
        self._exchange = Exchange(self._dialer, self._clock)

    @property
    def idle_connections(self) -> int:
        return self._exchange.idle_connections

    async def send(self, request: Request) -> Response:
        lane = "bodies" if request.sink is not None else None
        return await self._turns.run(request.destination, partial(self._send, request), request.timeout_s, lane=lane)

    async def close(self) -> None:
        self._turns.close()
        self._exchange.close()

    async def _send(self, request: Request) -> Response:
        addresses = await self._resolver.resolve(request.destination)
        question = Question(
            method=request.method,
            target=request.path,
            host=addresses[0].host_header,  # all addresses of a server name differ only in host and port
            headers={"User-Agent": self._user_agent, **request.headers},
            body=request.body,
            max_bytes=request.max_bytes,
            sink=request.sink,
        )
        return await self._exchange.ask(request.destination, addresses, question)

"""The listening side of HTTP: connections, their patience, and a clean end.

    table = RouteTable([modules...], {Type: instance, ...})
    site = Site(table, authenticate, RateLimiter.of(settings.rate_limits, clock), reactor=reactor)
    port = reactor.listenTCP(8008, site)
    ...
    await port.stopListening()
    await site.close(grace_seconds=10)

One `Site` may serve several ports; one that stands behind a proxy is a `Site` of its own with `proxies`.
"""

# Most of Twisted's HTTP has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from itertools import count
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from homeserver.errors import MatrixError
from homeserver.http.answer import answer_of_error, http_date, to_bytes
from homeserver.http.asks import parse_object
from homeserver.http.authenticate import Authenticate, FederationGate, VisitorGate
from homeserver.http.exchange import Exchange
from homeserver.http.forwarded import TrustedProxies
from homeserver.http.limits import RateLimiter
from homeserver.http.route import Auth, Upgrade
from homeserver.http.table import BadRoute, RouteTable
from homeserver.http.tap import Tap
from homeserver.lean import absent

# HTTP/2 is not spoken here.
with absent("h2"):
    from twisted.web.http import HTTPChannel, HTTPFactory

IDLE_SECONDS = 90
"""How long a connection is kept on which nothing is asked. Proxies usually let go after 60."""
REQUEST_SECONDS = 120
"""How long a request may take to come in whole."""
LEAST_BYTES_A_SECOND = 1024
"""What is uploaded may take longer, by as much as it takes at this rate; less is no upload but a way to hold us up."""
STALLED_SECONDS = 120
"""How long a client may take nothing of an answer that it asked for."""
SWEEP_SECONDS = 5

OnAnswer = Callable[[str, str, int, float], None]
"""Told of each answer: method, the route's pattern ("" where nothing matched), status, seconds since its headers."""


class Channel(HTTPChannel):
    """One client's connection. `Site` watches over its time, which is cheaper than two timers a request."""

    site: Site
    requestFactory = Exchange  # type: ignore[assignment]
    requests: list[Exchange]
    MAX_LENGTH = 16384
    totalHeadersSize = 16384
    maxHeaders = 100
    timeOut = None
    factory = None
    peer = "unknown"
    heard = 0.0
    """When bytes last came, by the site's sweep."""
    paused_at = 0.0
    reading_since: float | None = None
    """Since when a request is coming in, by the site's sweep; None between requests and while one is answered."""

    def connectionMade(self) -> None:
        super().connectionMade()
        assert self.transport is not None
        self.peer = str(getattr(self.transport.getPeer(), "host", "unknown"))
        self.heard = self.site.now
        self.site.channels.add(self)

    def dataReceived(self, data: bytes) -> None:
        self.heard = self.site.now
        if self.reading_since is None and not self._handlingRequest:
            self.reading_since = self.heard
        LineReceiver.dataReceived(self, data)

    def allContentReceived(self) -> None:
        self.reading_since = None
        super().allContentReceived()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.site.channels.discard(self)
        super().connectionLost(reason)

    def pause_reading(self) -> None:
        """Take nothing more from the connection for now."""
        self.paused_at = self.site.now
        if not getattr(self.transport, "disconnecting", False):
            self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        # That nothing came meanwhile was our doing.
        self.heard = self.site.now
        if self.reading_since is not None:
            self.reading_since += self.heard - self.paused_at
        if not getattr(self.transport, "disconnecting", False):
            self._networkProducer.resumeProducing()

    def tap(self, most: int) -> Tap | None:
        """The connection for a thread to read so much of a body from, where it is one without TLS."""
        transport: Any = self.transport
        if _is_tls(transport):
            return None  # it hands on what it does not know to what is below it, where the bytes mean nothing
        make: Callable[[int], Tap | None] | None = getattr(transport, "tap", None)
        return None if make is None else make(most)

    def drawn(self, size: int) -> None:
        """So many bytes of the body came by a tap, past the parser."""
        decoder = self._transferDecoder
        if decoder is None or not size:
            return
        decoder.contentLength -= size
        if decoder.contentLength == 0:
            decoder.dataReceived(b"")  # which ends the request

    def hand_over(self, upgrade: Upgrade) -> None:
        """Let go of the connection: another protocol has it from now on, with what has come in already."""
        transport, self.transport = self.transport, None
        assert transport is not None
        self.site.channels.discard(self)
        transport.unregisterProducer()  # type: ignore[attr-defined]
        # TLS stands between a socket and its protocol, and calls it by another name.
        where = "wrappedProtocol" if _is_tls(transport) else "protocol"
        setattr(transport, where, upgrade.protocol)
        early = b"".join(self._dataBuffer)
        self._dataBuffer, self.requests = [], []
        upgrade.protocol.makeConnection(transport)
        upgrade.protocol.dataReceived(upgrade.head + early)

    def loseConnection(self) -> None:
        """Close once what was written is out. Doing it twice is no mistake."""
        if not getattr(self.transport, "disconnecting", False):
            super().loseConnection()

    def is_idle(self) -> bool:
        return not self._handlingRequest

    def is_overdue(self, now: float) -> bool:
        """Whether it is the client's turn, and has been for too long."""
        request = self.requests[0] if self.requests else None
        if not self.is_idle():
            since = request.outflow.waiting_since if request is not None and request.outflow is not None else None
            return since is not None and now - since > STALLED_SECONDS
        may_take: float = REQUEST_SECONDS
        if request is not None and (body := request.incoming) is not None:
            if not body.awaited:
                return False
            may_take += body.received / LEAST_BYTES_A_SECOND
        reading = self.reading_since
        return now - self.heard > IDLE_SECONDS or (reading is not None and now - reading > may_take)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """What is no HTTP, or has too many or too long headers, gets a Matrix error too."""
        assert self.transport is not None
        error = MatrixError(400, "M_UNKNOWN", "This is not an HTTP request that this server understands")
        self.transport.write(to_bytes(answer_of_error(error), date=self.site.date(), close=True))
        self.loseConnection()


class Site(HTTPFactory):
    """Answers HTTP by a route table. Everything it needs is handed in; it holds no state but its connections."""

    timeOut = None

    def __init__(
        self,
        table: RouteTable,
        authenticate: Authenticate,
        limits: RateLimiter,
        *,
        reactor: IReactorTime,
        proxies: TrustedProxies | None = None,
        federation: FederationGate | None = None,
        visitors: VisitorGate | None = None,
        on_answer: OnAnswer | None = None,
    ) -> None:
        super().__init__(timeout=cast(float, None), reactor=reactor)
        for endpoint in table.endpoints:
            if endpoint.route.auth is Auth.FEDERATION and federation is None:
                raise BadRoute(endpoint.route, "a route for homeservers needs a federation gate")
        self.table = table
        self.authenticate = authenticate
        self.limits = limits
        self.proxies = proxies
        """Who may stand between the listener and its clients; None where nobody does."""
        self.federation = federation
        self.visitors = visitors
        self.on_answer = on_answer
        self.check_body = parse_object
        self.channels: set[Channel] = set()
        self.exchanges: set[Exchange] = set()
        """Requests being answered."""
        self.closing = False
        self.now = reactor.seconds()
        self._date = (0, b"")
        self._request_ids = count(1)
        self._run = secrets.token_hex(3)
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = reactor

    def buildProtocol(self, addr: IAddress | None) -> Channel:  # type: ignore[override]
        channel = Channel()
        channel.site = self
        return channel

    def startFactory(self) -> None:
        """Called for the first port. Not Twisted's: it would keep an access log of its own."""
        self._sweeping.start(SWEEP_SECONDS, now=True)

    def stopFactory(self) -> None:
        if self._sweeping.running:
            self._sweeping.stop()

    async def close(self, grace_seconds: float) -> None:
        """Let answers under way be finished, for `grace_seconds` at most; then interrupt those that are left.

        Stop listening first, and let whoever holds long polls end them, or they will take all of the grace.
        """
        self.closing = True
        for channel in list(self.channels):
            channel.persistent = False
            if channel.is_idle():
                channel.loseConnection()
        if self.exchanges:
            await self._wait_for_exchanges(grace_seconds)
        for exchange in list(self.exchanges):
            exchange.interrupt()
        for channel in list(self.channels):
            channel.loseConnection()

    def next_request_id(self) -> str:
        return f"{self._run}-{next(self._request_ids)}"

    def date(self) -> bytes:
        """The Date header's value, made once a second."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, http_date(now))
        return self._date[1]

    def _sweep(self) -> None:
        self.now = now = self.reactor.seconds()
        for channel in list(self.channels):
            if channel.is_overdue(now):
                channel.forceAbortClient()

    async def _wait_for_exchanges(self, seconds: float) -> None:
        ended: Deferred[None] = Deferred()

        def look() -> None:
            if not self.exchanges and not ended.called:
                ended.callback(None)

        looking = LoopingCall(look)
        looking.clock = self.reactor
        done = looking.start(0.02)
        timeout = self.reactor.callLater(seconds, lambda: None if ended.called else ended.callback(None))
        await ended
        if timeout.active():
            timeout.cancel()
        looking.stop()
        await DeferredList([done])


def _is_tls(transport: object) -> bool:
    """Whether it is Twisted's `TLSMemoryBIOProtocol`, which is there only where a listener has a certificate."""
    return hasattr(transport, "wrappedProtocol")

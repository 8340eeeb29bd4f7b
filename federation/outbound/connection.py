"""One connection to another server, which carries one request after the other.

Nothing is written to an encrypted connection before its handshake is over and the certificate found right, so nobody
but the peer ever sees a request. Spec: https://spec.matrix.org/v1.19/server-server-api/#response-authentication
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from federation.outbound.answer import AnswerReader, BadHttp, write_request
from federation.outbound.transport import Response, Sink

MAX_ERROR = 64 * 1024
"""Bytes of an answer that is no success, to a question with a sink."""


class ConnectionEnded(Exception):
    """The connection was gone before the answer was there. `begun`: a part of the answer was."""

    def __init__(self, why: str, *, begun: bool) -> None:
        super().__init__(why)
        self.begun = begun


class Question(msgspec.Struct, frozen=True):
    """A request as one connection carries it."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    host: str
    """For the `Host` header."""
    headers: Mapping[str, str]
    """Without `Host` and `Content-Length`."""
    body: bytes | None
    max_bytes: int
    """Of the answer's body."""
    sink: Sink | None = None
    """Takes the body of an answer of success, if there is one."""


class _Exchange(msgspec.Struct, eq=False):
    """What has come of the answer to a question."""

    answer: Deferred[Response]
    reader: AnswerReader
    sink: Sink | None
    poured: bool = False
    """Whether the body goes to the sink."""
    paused: bool = False
    body: bytearray = msgspec.field(default_factory=bytearray)


@implementer(IHandshakeListener)
class PeerConnection(Protocol):
    """A connection that waits for its handshake, then for a question, then for the answer, and again."""

    transport: ITCPTransport | None

    def __init__(self, *, encrypted: bool = True) -> None:
        self.ready: Deferred[None] = Deferred(lambda _: self.abort())
        """Fires once a question may be asked; fails if the connection ends before."""
        self.on_lost: Callable[[], None] = lambda: None
        self.lost = False
        self.idle_since = 0.0
        self._encrypted = encrypted
        self._exchange: _Exchange | None = None
        self._pouring: Deferred[None] | None = None
        """What the sink is at. The connection is paused meanwhile."""
        self._held = b""
        """What came in spite of that."""

    def ask(self, question: Question) -> Deferred[Response]:
        """Ask and wait for the answer. One at a time; cancelling it ends the connection.

        Fails with `ConnectionEnded`, `BadHttp` or what the sink raises; afterwards `lost` tells whether the connection
        can be used again. Raises `ValueError`, and writes nothing, where something in the question would break out of
        its line.
        """
        assert self._exchange is None
        data = write_request(question.method, question.target, question.host, question.headers, question.body)
        answer: Deferred[Response] = Deferred(lambda _: self._let_go())
        if self.lost or self.transport is None:
            answer.errback(ConnectionEnded("the connection is closed", begun=False))
            return answer
        reader = AnswerReader(question.max_bytes, None if question.sink is None else MAX_ERROR)
        self._exchange = _Exchange(answer, reader, question.sink)
        self.transport.write(data)
        return answer

    def abort(self) -> None:
        """End the connection at once: whatever it still carried, nobody waits for."""
        self.lost = True
        if self.transport is not None:
            self.transport.abortConnection()

    # What Twisted calls.

    def connectionMade(self) -> None:
        if not self._encrypted:
            self.ready.callback(None)

    def handshakeCompleted(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if self._exchange is None:
            self.abort()  # an answer that nobody asked for
        elif self._pouring is not None:
            self._held += data
        else:
            self._read(self._exchange, data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True
        self.transport = None
        if not self.ready.called:
            self.ready.errback(reason or ConnectionEnded("the connection was closed", begun=False))
        if self._exchange is not None and self._pouring is None:
            self._go_on(self._exchange)
        self.on_lost()

    # The way of an answer.

    def _read(self, exchange: _Exchange, data: bytes) -> None:
        reader = exchange.reader
        try:
            body = reader.feed(data)
            if exchange.sink is not None and reader.headed and not exchange.poured:
                exchange.poured = 200 <= reader.status < 300
                if exchange.poured:
                    exchange.sink.begin(reader.headers)
        except Exception as error:
            self._fail(error)
            return
        if exchange.sink is not None and exchange.poured and body:
            self._pour(exchange, exchange.sink, body)
        else:
            exchange.body += body
            self._go_on(exchange)

    def _pour(self, exchange: _Exchange, sink: Sink, body: bytes) -> None:
        pouring = self._pouring = Deferred.fromCoroutine(sink.write(body))
        pouring.addCallbacks(self._poured, self._pouring_failed, callbackArgs=(exchange,))
        if self._pouring is pouring and not self.lost:
            self._producer.pauseProducing()
            exchange.paused = True

    def _poured(self, _: None, exchange: _Exchange) -> None:
        self._pouring = None
        if exchange is self._exchange:
            self._go_on(exchange)

    def _pouring_failed(self, failure: Failure) -> None:
        self._pouring = None
        self._fail(failure)

    def _go_on(self, exchange: _Exchange) -> None:
        if exchange.reader.complete:
            self._succeed(exchange)
        elif self._held:
            data, self._held = self._held, b""
            self._read(exchange, data)
        elif self.lost:
            self._end(exchange)
        elif exchange.paused:
            exchange.paused = False
            self._producer.resumeProducing()

    def _end(self, exchange: _Exchange) -> None:
        try:
            exchange.reader.end()
        except BadHttp as error:
            self._fail(ConnectionEnded(str(error), begun=exchange.reader.begun))
        else:
            self._succeed(exchange)

    def _succeed(self, exchange: _Exchange) -> None:
        reader = exchange.reader
        self._exchange = None
        if self._held or not reader.reusable:
            self.abort()
        elif exchange.paused and not self.lost:
            self._producer.resumeProducing()
        exchange.answer.callback(Response(reader.status, reader.headers, bytes(exchange.body)))

    def _fail(self, error: Exception | Failure) -> None:
        exchange = self._exchange
        self._let_go()
        if exchange is not None and not exchange.answer.called:
            exchange.answer.errback(error)

    def _let_go(self) -> None:
        """Nobody waits for the answer any more."""
        self._exchange = None
        self.abort()
        if self._pouring is not None:
            self._pouring.cancel()

    @property
    def _producer(self) -> IPushProducer:
        return cast(IPushProducer, self.transport)

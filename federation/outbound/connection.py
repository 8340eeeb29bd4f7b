"""One TLS connection to a peer, which carries one request after the other.

Nothing is written before the handshake is over and the certificate found right, so nobody but the peer ever sees a
request. Spec: https://spec.matrix.org/v1.19/server-server-api/#response-authentication
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from federation.outbound.http1 import AnswerReader, BadHttp
from federation.outbound.transport import Response


class ConnectionEnded(Exception):
    """The connection was gone before the answer was there. `begun`: a part of the answer was."""

    def __init__(self, why: str, *, begun: bool) -> None:
        super().__init__(why)
        self.begun = begun


@implementer(IHandshakeListener)
class PeerConnection(Protocol):
    """A connection that waits for its handshake, then for a request, then for the answer, and again."""

    transport: ITCPTransport | None

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred(lambda _: self.abort())
        """Fires once a request may be sent; fails if the connection ends before."""
        self.on_lost: Callable[[], None] = lambda: None
        self.lost = False
        self.idle_since = 0.0
        self._reader: AnswerReader | None = None
        self._answer: Deferred[Response] | None = None

    def ask(self, request: bytes, max_bytes: int) -> Deferred[Response]:
        """Send one request and wait for its answer. One at a time; cancelling it ends the connection.

        Fails with `ConnectionEnded` or `BadHttp`. Afterwards `lost` tells whether the connection can be used again.
        """
        assert self._answer is None
        assert self.transport is not None
        answer = self._answer = Deferred(lambda _: self.abort())
        self._reader = AnswerReader(max_bytes)
        if self.lost:
            self._fail(ConnectionEnded("the connection is closed", begun=False))
        else:
            self.transport.write(request)
        return answer

    def abort(self) -> None:
        """End the connection at once: whatever it still carried, nobody waits for."""
        self.lost = True
        if self.transport is not None:
            self.transport.abortConnection()

    # What Twisted calls.

    def handshakeCompleted(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if self._reader is None:
            self.abort()  # an answer that nobody asked for
            return
        try:
            complete = self._reader.feed(data)
        except BadHttp as error:
            self.abort()
            self._fail(error)
            return
        if complete:
            self._succeed()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True
        if not self.ready.called:
            self.ready.errback(reason or ConnectionEnded("the connection was closed", begun=False))
        if self._reader is not None:
            try:
                self._reader.end()
            except BadHttp as error:
                self._fail(ConnectionEnded(str(error), begun=self._reader.begun))
            else:
                self._succeed()
        self.on_lost()

    def _succeed(self) -> None:
        reader, answer = self._reader, self._answer
        assert reader is not None
        assert answer is not None
        self._reader = self._answer = None
        if not reader.reusable:
            self.abort()
        if not answer.called:
            answer.callback(reader.response())

    def _fail(self, error: Exception) -> None:
        answer = self._answer
        self._reader = self._answer = None
        if answer is not None and not answer.called:
            answer.errback(error)

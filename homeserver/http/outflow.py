"""Sending a `Source` down a connection: the next piece is read once the one before it is out of our hands.

    read ──> write ──> taken at once? ──yes──> read
                           └──no──> wait until the client has taken it ──> read

So a client that is slow, or stops taking anything, costs one piece of memory. Where a source does not know its length,
pieces are framed as chunks, so that a client can tell an answer's end from one that broke off (RFC 9112, section 7.1).
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITransport
from zope.interface import implementer

from homeserver.http.bodies import Source


class SourceEnded(Exception):
    """There was less in a source than it said, or more: the answer, half of which is out, cannot be ended well."""


@implementer(IPushProducer)
@define(eq=False)
class Outflow:
    """One answer on its way. What Twisted's transport calls, it calls as a producer's."""

    _transport: ITransport
    _seconds: Callable[[], float]
    _paused: bool = field(default=False, init=False)
    _ready: Deferred[None] | None = field(default=None, init=False)
    _since: float | None = field(default=None, init=False)

    @property
    def waiting_since(self) -> float | None:
        """Since when the client has been taking nothing, by `seconds`; None where it is not its turn."""
        return self._since

    async def pour(self, source: Source, *, chunked: bool = False) -> None:
        """Send all of it. Raises `SourceEnded`, or OSError where it cannot be read; is cancelled by whoever waits.

        `chunked`: with frames, where the length is not known; without, the connection's end is the answer's.
        """
        left = source.length
        if left is None:
            while piece := await source.read():
                await self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                await self._send(b"0\r\n\r\n")
            return
        while left:
            piece = await source.read()
            left -= len(piece)
            if not piece or left < 0:
                raise SourceEnded(f"{abs(left)} bytes {'missing' if not piece else 'too many'}")
            await self._send(piece)

    async def _send(self, piece: bytes) -> None:
        self._transport.write(piece)
        if self._paused:
            self._since = self._seconds()
            self._ready = Deferred()
            await self._ready

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._since = None
        ready, self._ready = self._ready, None
        if ready is not None and not ready.called:
            ready.callback(None)

    def stopProducing(self) -> None:
        """The connection is going; whoever pours is cancelled."""

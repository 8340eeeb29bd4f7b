"""Plain TCP listeners by the event loop's own means, which cost a fraction of what Twisted's do.

    the loop ──bytes──> Connection ──> Channel          Channel ──write, pause, close──> Connection ──> the loop

The loop accepts, reads a quarter of a MiB at once and writes at once what the network takes; all of that is compiled.
Of a long body threads read by themselves (`homeserver.http.tap`).
To Twisted's HTTP a `Connection` is the transport, to the loop it is the protocol. Listeners with TLS are Twisted's.
"""

# Most of Twisted has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any, cast

import structlog
from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from homeserver.http.site import Site
from homeserver.http.tap import Tap

NO_LINGERING = struct.pack("ii", 1, 0)
"""What is not sent yet is dropped with the connection."""

_log = structlog.get_logger("homeserver.http")


class BadCertificate(ValueError):
    """A listener's certificate or key that cannot be used. The message names the file."""


@implementer(IAddress)
@frozen
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@implementer(ITransport, IPushProducer)
class Connection(asyncio.Protocol):
    """One client's connection."""

    protocol: IProtocol
    """What hears of it: a `Channel`, until that hands the connection over."""
    _wire: asyncio.Transport
    _peer = Address("unknown", 0)
    _producer: Any = None
    disconnecting = False
    _lost = False

    def __init__(self, site: Site) -> None:
        self._site = site

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = wire = cast(asyncio.Transport, transport)
        # Told at once of whatever is not taken at once: a piece that was written is out of our hands.
        wire.set_write_buffer_limits(high=0)
        if peer := wire.get_extra_info("peername"):
            self._peer = Address(*peer[:2])
        self.protocol = self._site.buildProtocol(None)
        self.protocol.makeConnection(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.protocol.dataReceived(data)
        except Exception:
            _log.exception("a connection failed")
            self.abortConnection()

    def eof_received(self) -> None:
        """Nothing more comes: nobody waits for an answer either."""
        self.abortConnection(lingers=True)

    def pause_writing(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        """Called too when what was to be written is dropped with the connection."""
        if self._producer is not None and not self.disconnecting:
            self._producer.resumeProducing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.disconnecting = self._lost = True
        self._producer = None
        protocol = self.protocol
        del self.protocol  # they hold each other
        try:
            protocol.connectionLost(Failure(ConnectionDone() if exc is None else ConnectionLost(str(exc))))
        except Exception:
            _log.exception("a connection failed")

    # What a channel calls.

    def tap(self, most: int) -> Tap | None:
        """For a thread to read from, up to so many bytes, while this is paused."""
        if self.disconnecting:
            return None
        try:
            return Tap(os.dup(self._wire.get_extra_info("socket").fileno()), most)
        except OSError:
            return None  # too many files are open: it goes by the loop

    # What Twisted calls.

    def write(self, data: bytes) -> None:
        if not self.disconnecting:
            self._wire.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once what was written is out."""
        if not self.disconnecting:
            self.disconnecting = True
            self._wire.close()

    def abortConnection(self, lingers: bool = False) -> None:
        """Close now. What the kernel has yet to send goes out if it `lingers`."""
        if self._lost:
            return
        self.disconnecting = True
        if not lingers:
            self._wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGERING)
        self._wire.abort()

    def pauseProducing(self) -> None:
        if not self.disconnecting:
            self._wire.pause_reading()

    def resumeProducing(self) -> None:
        if not self.disconnecting:
            self._wire.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def getPeer(self) -> Address:
        return self._peer

    def getHost(self) -> Address:
        return Address(*self._wire.get_extra_info("sockname")[:2])


@implementer(IListeningPort)
@define(eq=False)
class Port:
    """A listener. Made by `listen`."""

    _site: Site
    _socket: socket.socket
    _loop: asyncio.AbstractEventLoop
    _opening: asyncio.Task[asyncio.AbstractServer] = field(init=False)

    def startListening(self) -> None:
        self._opening = self._loop.create_task(self._open())
        self._site.doStart()

    def stopListening(self) -> Deferred[None]:
        return Deferred.fromFuture(self._loop.create_task(self._close()))

    def getHost(self) -> Address:
        return Address(*self._socket.getsockname()[:2])

    async def _open(self) -> asyncio.AbstractServer:
        return await self._loop.create_server(lambda: Connection(self._site), sock=self._socket, backlog=1024)

    async def _close(self) -> None:
        server = await self._opening
        server.close()
        self._site.doStop()


def listen(site: Site, host: str, port: int, loop: asyncio.AbstractEventLoop, backlog: int = 1024) -> Port:
    """Serve a site at an address of this machine. `loop` is that of the reactor. Raises CannotListenError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise CannotListenError(host, port, error) from None
    made = Port(site, listener, loop)
    made.startListening()
    return made

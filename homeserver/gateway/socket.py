"""WebSocket frames in and out, by autobahn. What they say is `homeserver.gateway.connection`'s business.

    client's bytes ── autobahn: frames, masks, sizes, UTF-8 ──> Connection.heard
    Connection ── send ──> a frame, written at once ── taken? ── no: `is_full` until the client has taken it

While a client takes nothing, nothing more is read for it and nothing more is read from it.
"""

# autobahn has no annotations that hold.
# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False

from __future__ import annotations

import struct
from functools import cache
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from homeserver.gateway.codes import NOT_TEXT, Close

LARGEST_MESSAGE = 256 * 1024
"""In bytes: as much as a body over HTTP may have."""
LARGEST_GREETING = 16 * 1024
"""Before the client said who it is."""
CLOSE_SECONDS = 5


class Listener(Protocol):
    """What a socket tells of: must not wait."""

    def opened(self) -> None: ...

    def heard(self, payload: bytes) -> None: ...

    def stirred(self) -> None:
        """The client answered a ping of WebSocket's own."""

    def drained(self) -> None:
        """The client has taken what was written."""

    def filled(self) -> None:
        """The client takes nothing for now."""

    def closed(self) -> None: ...


@implementer(IPushProducer)
class Socket(WebSocketServerProtocol):
    """One connection. Implements `homeserver.gateway.connection.Line`."""

    transport: Any
    is_full = False
    _is_registered = False
    _is_ended = False

    def __init__(self, factory: Any, listener: Listener) -> None:
        super().__init__()
        self.factory = factory
        self._listener = listener

    # -- towards the client ------------------------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        """One message. Made here and not by autobahn: a busy channel sends to a thousand clients at once."""
        if self.state == self.STATE_OPEN:
            self.transport.write(frame(payload))

    def close(self, why: Close) -> None:
        """End the connection once what was written is out."""
        self._release()
        if self.state == self.STATE_OPEN:
            # Not `sendClose`, which keeps WebSocket's own codes to itself.
            self.sendCloseFrame(code=why.code, reasonUtf8=why.reason.encode(), isReply=False)

    def abort(self) -> None:
        """End it now."""
        self._release()
        self.dropConnection(abort=True)

    def hold(self, is_held: bool) -> None:
        """Take nothing more from the client, or go on."""
        if self._is_ended:
            return
        if is_held:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def admit(self) -> None:
        """The client is known: it may send more at once."""
        self.maxMessagePayloadSize = self.maxFramePayloadSize = LARGEST_MESSAGE

    # -- from autobahn -----------------------------------------------------------------------------------------

    def onOpen(self) -> None:
        self.transport.registerProducer(self, True)
        self._is_registered = True
        self._listener.opened()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.close(NOT_TEXT)
        else:
            self._listener.heard(payload)

    def onPong(self, payload: bytes) -> None:
        self._listener.stirred()

    def onClose(self, wasClean: bool, code: object, reason: object) -> None:
        self._is_ended = True
        self._listener.closed()

    # -- from the transport ------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self.is_full = True
        self._listener.filled()

    def resumeProducing(self) -> None:
        self.is_full = False
        self._listener.drained()

    def stopProducing(self) -> None:
        """The connection is going."""

    def unregisterProducer(self) -> None:
        if self._is_registered:
            self._is_registered = False
            super().unregisterProducer()

    def _release(self) -> None:
        """A transport that waits for its producer would never close; and it must hear the client's goodbye."""
        if not self._is_ended:
            self.unregisterProducer()
            self.transport.resumeProducing()


def frame(payload: bytes) -> bytes:
    """A whole text message from a server.

    Spec: https://www.rfc-editor.org/rfc/rfc6455#section-5.2
    """
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 1 << 16:
        return b"\x81\x7e" + struct.pack("!H", length) + payload
    return b"\x81\x7f" + struct.pack("!Q", length) + payload


@cache
def factory_for(reactor: Any) -> Any:
    """autobahn's settings: no compression, whose windows take 100 KiB a connection; nothing may be unmasked."""
    made = WebSocketServerFactory(reactor=reactor)
    made.setProtocolOptions(
        versions=[13],
        webStatus=False,
        maxFramePayloadSize=LARGEST_GREETING,
        maxMessagePayloadSize=LARGEST_GREETING,
        failByDrop=False,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=CLOSE_SECONDS,
        allowedOrigins=["*"],
    )
    return made

"""The event loop: whoever waits for something on a connection hears when it is lost."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as anything
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

reactor: Any = anything
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what is left unsaid is dropped, and the peer hears of an error in place of an end."""


class Listener(Protocol):
    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.heard = b""
        self.lost: Deferred[BaseException | None] = Deferred()
        self.pauses = False

    def connectionMade(self) -> None:
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.pauses:
            self.transport.pauseProducing()  # type: ignore[union-attr]
            reactor.callLater(0, self.transport.resumeProducing)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(reason.value)


class Company(Factory):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> Listener:
        return self._listener


@pytest.mark.parametrize("pauses", [False, True], ids=["reading on", "pausing"])
@pytest.mark.parametrize("unsent", [0, 50_000_000], ids=["silent", "writing"])
@pytest_twisted.ensureDeferred
async def test_last_words_before_a_reset(pauses: bool, unsent: int) -> None:
    """All of them are heard, and then that the connection is lost."""
    listener = Listener()
    listener.pauses = pauses
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Company(listener))
    peer = socket.create_connection(("127.0.0.1", port.getHost().port))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    await listener.made
    if unsent:
        listener.transport.write(b"x" * unsent)  # type: ignore[union-attr]
    # Both before the loop comes to look.
    peer.sendall(b"bye")
    peer.close()
    reason = await listener.lost
    assert listener.heard == b"bye"
    assert isinstance(reason, ConnectionLost)
    await port.stopListening()

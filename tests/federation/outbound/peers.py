"""Servers on loopback for tests of connections: real TLS, and whatever answers a test wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions

from config import Tls
from federation.discovery.address import Address
from federation.discovery.ports import DiscoveryFailed
from homeserver.http.tls import make_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@frozen
class Heard:
    """One request as a peer got it."""

    line: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


Script = Callable[[Heard], bytes | None]
"""What to write for a request; None closes the connection."""


@define(eq=False)
class Peer(Factory):
    """A server that answers by a script, and writes down whom it heard."""

    script: Script = lambda heard: OK
    heard: list[Heard] = field(factory=list)
    sni: list[bytes | None] = field(factory=list)
    connections: list[PeerProtocol] = field(factory=list)
    port: IListeningPort | None = None

    def buildProtocol(self, address: object) -> PeerProtocol:
        protocol = PeerProtocol(self, len(self.connections))
        self.connections.append(protocol)
        return protocol

    def listen(self, reactor: Any, tls: Tls | CertificateOptions | None, host: str = "127.0.0.1") -> int:
        """Begin to listen; the port. Without `tls` it speaks plain HTTP."""
        if tls is None:
            plain = self.port = reactor.listenTCP(0, self, interface=host)
            return int(plain.getHost().port)
        options = make_tls(tls) if isinstance(tls, Tls) else tls
        context = options.getContext()
        context.set_tlsext_servername_callback(lambda connection: self.sni.append(connection.get_servername()))
        port = self.port = reactor.listenSSL(0, self, options, interface=host)
        number: int = port.getHost().port
        return number

    async def close(self) -> None:
        if self.port is not None:
            await _maybe(self.port.stopListening())
        for connection in self.connections:
            connection.drop()


async def _maybe(deferred: Any) -> None:
    if isinstance(deferred, Deferred):
        await deferred


class PeerProtocol(Protocol):
    transport: ITCPTransport | None

    def __init__(self, peer: Peer, number: int) -> None:
        self._peer = peer
        self._number = number
        self._data = b""
        self.open = False

    def connectionMade(self) -> None:
        self.open = True

    def connectionLost(self, reason: object = None) -> None:
        self.open = False

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while (heard := self._take()) is not None:
            self._peer.heard.append(heard)
            answer = self._peer.script(heard)
            assert self.transport is not None
            if answer is None:
                self.drop()
            else:
                self.transport.write(answer)

    @property
    def unsent_bytes(self) -> int:
        """How much the other side has not taken, and neither have the sockets between."""
        under_tls: Any = self.transport.transport  # type: ignore[union-attr]
        return len(under_tls.dataBuffer) - int(under_tls.offset) + int(under_tls._tempDataLen)

    def hang_up(self) -> None:
        """Close the connection once everything is written."""
        assert self.transport is not None
        self.transport.loseConnection()

    def drop(self) -> None:
        if self.open and self.transport is not None:
            self.transport.abortConnection()

    def _take(self) -> Heard | None:
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return None
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return None
        self._data = rest[size:]
        return Heard(line, headers, rest[:size], self._number)


@define
class Names:
    """A `Resolver` and an `AddressLookup` of fixed names."""

    addresses: dict[str, Sequence[Address]] = field(factory=dict)
    hosts: dict[str, Sequence[str]] = field(factory=dict)

    async def resolve(self, server_name: str) -> Sequence[Address]:
        return self.addresses[server_name]

    async def lookup(self, host: str) -> Sequence[str]:
        if host not in self.hosts:
            raise DiscoveryFailed(f"{host} has no address")
        return self.hosts[host]


@define
class Basin:
    """A `Sink` that keeps everything, and is as slow or as broken as a test wants."""

    headers: Mapping[str, str] | None = None
    pieces: list[bytes] = field(factory=list)
    gates: list[Deferred[None]] | None = None
    """Set to a list, and every write waits for its Deferred in it."""
    breaks_at: int | None = None
    """The piece that it cannot take."""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def begin(self, headers: Mapping[str, str]) -> None:
        assert self.headers is None
        self.headers = headers

    async def write(self, data: bytes) -> None:
        assert self.headers is not None
        if self.breaks_at == len(self.pieces):
            raise OSError("no space left on the device")
        self.pieces.append(data)
        if self.gates is not None:
            gate: Deferred[None] = Deferred()
            self.gates.append(gate)
            await gate

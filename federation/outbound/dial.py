"""Connecting to a peer: look its host up, leave out addresses that are none of its business, try the rest in turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import field
from twisted.internet import error as net
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from federation.discovery.address import Address, is_ip_literal
from federation.discovery.ports import AddressLookup, DiscoveryFailed
from federation.discovery.private import AddressPolicy
from federation.outbound.connection import PeerConnection
from federation.outbound.race import Race
from federation.outbound.tls import PeerTls
from federation.outbound.transport import Unreachable
from federation.outbound.trust import BadTlsName
from federation.service import service

if TYPE_CHECKING:
    from federation.outbound.handshake import TlsClient

STAGGER_S = 0.3
MOST_TRIED = 8
"""IP addresses of one host that are tried."""


@service
class Dialer:
    """Makes connections that are ready for a request: open, encrypted, and to whom they should be."""

    _reactor: Any
    """The reactor, of which Twisted has no one type: it connects and keeps time."""
    _tls: PeerTls
    _lookup: AddressLookup
    _policy: AddressPolicy
    _timeout_s: float
    """For one IP address, from the first packet to the end of the TLS handshake."""
    _stagger_s: float = field(default=STAGGER_S)

    async def connect_any(
        self, destination: str, addresses: Sequence[Address], *, encrypted: bool = True
    ) -> PeerConnection:
        """The first connection that comes about, the addresses tried in their order. Raises `Unreachable`."""
        failure = Unreachable(destination, "it has no address")
        for address in addresses:
            try:
                return await self.connect(destination, address, encrypted=encrypted)
            except Unreachable as error:
                failure = error
        raise failure

    async def connect(self, destination: str, address: Address, *, encrypted: bool = True) -> PeerConnection:
        """A connection to one address. Raises `Unreachable`, which names `destination`."""
        hosts = await self._find(destination, address)
        # The attempts differ only in the IP address, so that of the last stands for all in the error.
        attempts = [partial(self._attempt, destination, ip, address, encrypted) for ip in hosts]
        return await Race(attempts, self._stagger_s, self._reactor).run()

    async def _find(self, destination: str, address: Address) -> Sequence[str]:
        if is_ip_literal(address.host):
            found: Sequence[str] = [address.host]
        else:
            try:
                found = await self._lookup.lookup(address.host)
            except DiscoveryFailed as error:
                raise Unreachable(destination, str(error)) from None
        allowed = [ip for ip in found if self._policy.allows(ip)]
        if not allowed:
            why = f"{address.host} is a private address ({', '.join(found)}), and those are not allowed"
            raise Unreachable(destination, why, retryable=False)
        return allowed[:MOST_TRIED]

    async def _attempt(self, destination: str, ip: str, address: Address, encrypted: bool) -> PeerConnection:
        try:
            tls = self._tls.client(address.tls_name) if encrypted else None
        except BadTlsName as error:
            raise Unreachable(destination, str(error), retryable=False) from None
        connecting = Deferred.fromCoroutine(self._open(ip, address.port, tls))
        connecting.addTimeout(self._timeout_s, self._reactor)
        try:
            return await connecting
        except Exception as error:
            raise Unreachable(destination, f"{ip} port {address.port}: {self._explain(error, tls)}") from None

    async def _open(self, ip: str, port: int, tls: TlsClient | None) -> PeerConnection:
        kind = TCP6ClientEndpoint if ":" in ip else TCP4ClientEndpoint
        endpoint = kind(self._reactor, ip, port, timeout=self._timeout_s)
        connection = PeerConnection(encrypted=tls is not None)
        factory = _Given(connection)
        await endpoint.connect(factory if tls is None else tls.around(factory))
        await connection.ready
        return connection

    def _explain(self, error: Exception, tls: TlsClient | None) -> str:
        match error:
            case _ if tls is not None and (why := tls.explain(error)) is not None:
                return why
            case DeferredTimeout() | net.TimeoutError():
                return f"no connection within {self._timeout_s:g} s"
            case net.ConnectionRefusedError():
                return "connection refused"
            case _:
                return str(error) or type(error).__name__


class _Given(Factory):
    """Gives the one protocol that is there already."""

    noisy = False

    def __init__(self, protocol: PeerConnection) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> PeerConnection:
        return self._protocol

"""Whom a request is from, when a reverse proxy stands before the listener.

Every proxy appends the address that it saw to `X-Forwarded-For`. Only what proxies of our own appended can be believed,
so the chain is read from its end for as long as each hop, beginning with the connection itself, is one of them; the
first address that is not is the client's. All before it is anybody's claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from attrs import frozen

from config import Listener
from federation.discovery.private import Network


@frozen
class TrustedProxies:
    """Which addresses may say on whose behalf they ask."""

    _networks: tuple[Network, ...]

    @classmethod
    def of(cls, listener: Listener) -> TrustedProxies | None:
        """Those of a listener; None where no proxy stands before it."""
        if not listener.forwarded:
            return None
        return cls(tuple(ip_network(text, strict=False) for text in listener.trusted_proxies))

    def client(self, peer: str, headers: Iterable[bytes]) -> str:
        """The client's address, given that of the connection and the `X-Forwarded-For` headers in their order."""
        client = _parse(peer)
        if client is None:
            return peer
        hops = [hop for header in headers for hop in header.decode("latin-1").split(",")]
        while hops and self._trusts(client):
            before = _parse(hops.pop())
            if before is None:
                break  # no address, so nobody whom limits could mean: the proxy that passed it on answers for it
            client = before
        return str(client)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(1024)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: some add a port, and IPv6 is then in brackets."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address

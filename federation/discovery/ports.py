"""What discovery needs of the world, stated here and implemented over sockets in `federation/outbound/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class DiscoveryFailed(Exception):
    """A look-up had no outcome: no answer in time, a server that fails, a page that cannot be had."""


class Page(msgspec.Struct, frozen=True):
    """The answer to a plain HTTPS request, after redirects."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes


class WellKnownFetcher(Protocol):
    """Fetches `https://HOST/.well-known/matrix/server`."""

    async def fetch(self, host: str) -> Page:
        """Follows redirects, within limits of size, time and number. Raises `DiscoveryFailed`."""


class SrvRecord(msgspec.Struct, frozen=True, order=True):
    """One SRV record. Spec: RFC 2782"""

    priority: int
    weight: int
    port: int
    target: str
    """Without the final dot: empty where the record says that the service is not to be had."""


class SrvAnswer(msgspec.Struct, frozen=True):
    """What the name servers say of a service; no records where there is no such name, or it has none."""

    records: Sequence[SrvRecord]
    ttl_s: int = 0


class SrvLookup(Protocol):
    async def lookup(self, name: str) -> SrvAnswer:
        """The SRV records of `_service._tcp.HOST`. Raises `DiscoveryFailed`."""


class AddressLookup(Protocol):
    async def lookup(self, host: str) -> Sequence[str]:
        """IP addresses of a host name, best first. Raises `DiscoveryFailed` where there are none."""

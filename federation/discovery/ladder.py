"""The ladder: from a server's name to the addresses to try, in order.

    1    example.org is an IP literal        that address, the given port or 8448
    2    it names a port                     that host and port
    3    .well-known names another           3.1, 3.2 as 1 and 2; else its SRV records (3.3, 3.4); else port 8448 (3.5)
    4    SRV record of _matrix-fed._tcp      its targets, which must have a certificate for the name they serve
    5    SRV record of _matrix._tcp          the same
    6    none of all this                    port 8448

Host names in the result are looked up by whoever connects, who also judges what comes out (`private`).

Spec: https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from federation.discovery.address import FEDERATION_PORT, Address, plain_address, split_server_name
from federation.discovery.srv import SrvRecords
from federation.discovery.wellknown import WellKnown
from federation.outbound.transport import Unreachable
from federation.room.identifiers import InvalidIdentifier
from federation.service import service


class Resolver(Protocol):
    """Knows where servers are."""

    async def resolve(self, server_name: str) -> Sequence[Address]:
        """Addresses in the order in which to try them, never none. Raises `Unreachable`."""


@service
class Ladder:
    """The specification's way of finding a server."""

    _well_known: WellKnown
    _srv: SrvRecords

    async def resolve(self, server_name: str) -> Sequence[Address]:
        try:
            own = plain_address(server_name)
            if own is not None:
                return [own]
            host = split_server_name(server_name).host
        except InvalidIdentifier as error:
            raise Unreachable(server_name, str(error), retryable=False) from None
        delegated = await self._well_known.delegation(host)
        if delegated is None:
            return await self._by_srv(server_name, host)
        there = plain_address(delegated)  # `WellKnown` has checked its form
        return [there] if there is not None else await self._by_srv(server_name, delegated)

    async def _by_srv(self, server_name: str, host: str) -> Sequence[Address]:
        records = await self._srv.of(host)
        if records is None:
            return [Address(host, FEDERATION_PORT, tls_name=host, host_header=host)]
        if not records:
            raise Unreachable(server_name, "its SRV record says that it cannot be reached")
        return [Address(record.target, record.port, tls_name=host, host_header=host) for record in records]

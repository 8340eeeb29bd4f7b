"""Where a request goes, and as whom the peer must identify itself there.

Spec: https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
"""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from federation.room.identifiers import InvalidIdentifier, parse_server_name

FEDERATION_PORT = 8448
"""Where servers listen for each other when nobody says otherwise."""


class Address(msgspec.Struct, frozen=True):
    """One place to connect to. Several of them are tried in order."""

    host: str
    """An IP address (without brackets), or a host name that is still to be looked up."""
    port: int
    tls_name: str
    """What the certificate must be valid for: a host name, which is also sent as SNI, or an IP address."""
    host_header: str


class SplitName(msgspec.Struct, frozen=True):
    """A server name taken apart."""

    host: str
    """Without the brackets of IPv6."""
    port: int | None
    is_literal: bool
    """Whether the host is an IP address."""


def split_server_name(name: str) -> SplitName:
    """Take a server name apart. Raises `InvalidIdentifier`, also for ports that do not exist."""
    parse_server_name(name)
    host, port_text = _split_port(name)
    port = int(port_text) if port_text else None
    if port is not None and not 0 < port < 65536:
        raise InvalidIdentifier("server name", "has a port that does not exist")
    return SplitName(host.strip("[]"), port, is_ip_literal(host.strip("[]")))


def is_ip_literal(host: str) -> bool:
    """Whether this is an IP address in its usual form, without brackets or a scope."""
    if not host or (host[-1] not in "0123456789abcdefABCDEF:." or "%" in host):
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def plain_address(name: str) -> Address | None:
    """Steps 1, 2, 3.1 and 3.2: the address that a server name gives by itself, because it is an IP literal or names
    a port; None where more has to be asked. `name` may be the server's own or the one it delegates to.

    Raises `InvalidIdentifier`.
    """
    split = split_server_name(name)
    if split.is_literal:
        return Address(split.host, split.port or FEDERATION_PORT, tls_name=split.host, host_header=name)
    if split.port is not None:
        return Address(split.host, split.port, tls_name=split.host, host_header=name)
    return None


def _split_port(name: str) -> tuple[str, str]:
    if name.startswith("["):
        host, _, rest = name.partition("]")
        return host + "]", rest.removeprefix(":")
    host, _, port = name.partition(":")
    return host, port

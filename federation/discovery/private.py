"""Which IP addresses a peer may live at: on the internet, and where the settings say so besides.

Any server name can point anywhere, at the router's or the database's address too, so what a name was looked up as is
judged, and not only what it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from attrs import field, frozen

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""Whatever else there is of IPv6 is special in one way or another, or not given out yet."""
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")

Network = IPv4Network | IPv6Network
IpAddress = IPv4Address | IPv6Address


@frozen
class AddressPolicy:
    """What may be connected to."""

    _allowed: tuple[Network, ...] = field(default=())

    @classmethod
    def of(cls, ranges: Iterable[str] = (), *, allow_loopback: bool = False) -> AddressPolicy:
        """Public addresses, those in `ranges`, and if wished this machine itself."""
        networks = tuple(ip_network(text, strict=False) for text in ranges)
        return cls(networks + _LOOPBACK if allow_loopback else networks)

    def allows(self, address: str) -> bool:
        """Whether a peer may live at this IP address, given in its usual form."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if self._is_listed(ip):
            return True
        inner = _inside(ip)
        if inner is not None:
            return self._is_listed(inner) or _is_public(inner)
        return _is_public(ip)

    def _is_listed(self, ip: IpAddress) -> bool:
        return any(ip in network for network in self._allowed)


def _is_public(ip: IpAddress) -> bool:
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


def _inside(ip: IpAddress) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end at, for the kinds that are only a wrapping."""
    if isinstance(ip, IPv4Address):
        return None
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in _NAT64 or ip in _NAT64_LOCAL:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return None

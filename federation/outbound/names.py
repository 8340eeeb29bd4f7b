"""Looking names up: IP addresses as this machine's own programs do, SRV records by asking the name servers.

Addresses come from `getaddrinfo`, so that /etc/hosts and everything else that is set up here counts; it blocks, so it
has threads of its own, which a slow name server may fill without anybody else noticing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.names import dns
from twisted.names.client import Resolver
from twisted.names.error import DNSNameError

from federation.discovery.address import is_ip_literal
from federation.discovery.ports import DiscoveryFailed, SrvAnswer, SrvRecord
from federation.service import service
from federation.threads import Workers

PATIENCE_S = (2, 4)
"""For each round of asking the name servers."""
RESOLV_CONF = Path("/etc/resolv.conf")
DNS_PORT = 53


@service
class SystemAddresses:
    """IP addresses of host names."""

    _threads: Workers

    async def lookup(self, host: str) -> Sequence[str]:
        try:
            found = await self._threads.run(_look_up, host)
        except (OSError, UnicodeError) as error:
            raise DiscoveryFailed(f"{host} has no address: {getattr(error, 'strerror', None) or error}") from None
        if not found:
            raise DiscoveryFailed(f"{host} has no address")
        return found


def _look_up(host: str) -> list[str]:
    """In a thread: best first, each once."""
    entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


class NameServers:
    """SRV records from the name servers of this machine's settings."""

    def __init__(self, reactor: Any, servers: Sequence[tuple[str, int]] | None = None) -> None:
        """`servers` are IP addresses and ports; without them, those that /etc/resolv.conf names just then."""
        self._reactor = reactor
        self._servers = servers
        self._read_at: float | None = None
        self._resolver: Resolver | None = None

    async def lookup(self, name: str) -> SrvAnswer:
        try:
            answers, _, _ = await self._current().lookupService(name, PATIENCE_S)  # type: ignore[no-untyped-call]
        except DNSNameError:
            return SrvAnswer(())
        except Exception as error:  # Twisted has a dozen kinds, and names that DNS cannot hold raise others
            raise DiscoveryFailed(f"{name}: {type(error).__name__}") from None
        records, ttls = [], []
        for answer in answers:
            if answer.type == dns.SRV:
                found = answer.payload
                target = str(found.target).rstrip(".")
                records.append(SrvRecord(found.priority, found.weight, found.port, target))
                ttls.append(answer.ttl)
        return SrvAnswer(records, min(ttls, default=0))

    def _current(self) -> Resolver:
        changed_at = _changed_at(RESOLV_CONF) if self._servers is None else None
        if self._resolver is None or changed_at != self._read_at:
            self._read_at = changed_at
            servers = self._servers if self._servers is not None else read_resolv_conf(_read(RESOLV_CONF))
            self._resolver = Resolver(servers=list(servers), reactor=self._reactor)  # type: ignore[no-untyped-call]
        return self._resolver


def read_resolv_conf(text: str) -> list[tuple[str, int]]:
    """The name servers in a file of the kind of resolv.conf(5); this machine itself where there are none."""
    lines = [line.split() for line in text.splitlines()]
    named = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return [(server, DNS_PORT) for server in named if is_ip_literal(server)] or [("127.0.0.1", DNS_PORT)]


def _changed_at(file: Path) -> float | None:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""

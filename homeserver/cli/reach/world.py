"""The ways out of this machine, as the checks need them."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from config import Settings
from federation.discovery.ports import AddressLookup, DiscoveryFailed, Page, SrvLookup
from federation.outbound.dial import Dialer
from federation.outbound.transport import Transport
from federation.service import service
from homeserver.cli.findings import Finding, bad, warning

PATIENCE_S = 10.0
"""For each thing that is tried."""

T = TypeVar("T")


class Web(Protocol):
    async def get(self, url: str) -> Page:
        """A page over HTTPS, redirects followed. Raises `DiscoveryFailed`."""


@service
class World:
    """Whom to ask, and for whom."""

    settings: Settings
    key_ids: Sequence[str]
    """Of this server's signing keys."""
    is_running: bool
    """Whether the server answers on this machine now."""
    web: Web
    srv: SrvLookup
    addresses: AddressLookup
    dialer: Dialer
    """Goes anywhere, to private addresses too: whether they are a mistake is for the checks to say."""
    transport: Transport
    timers: IReactorTime
    now_s: Callable[[], float] = time.time

    async def page(self, url: str) -> Page:
        """A page over HTTPS. Raises `DiscoveryFailed`, also when patience is at its end."""
        try:
            return await self.patiently(self.web.get(url))
        except DeferredTimeout:
            raise DiscoveryFailed(f"no answer within {PATIENCE_S:g} s") from None

    async def patiently(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of the work. Raises Twisted's TimeoutError."""
        waiting = Deferred.fromCoroutine(work)
        waiting.addTimeout(PATIENCE_S, self.timers)
        return await waiting

    def unreached(self, subject: str, text: str) -> Finding:
        """Before the server runs, nobody can expect it to answer."""
        return bad(subject, text) if self.is_running else warning(subject, f"{text} (the server is not running)")

"""Fetching `/.well-known/matrix/server` over HTTPS, with redirects, from hosts that may be anybody's.

Spec: https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import SplitResult, urljoin, urlsplit

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from federation.discovery.address import Address
from federation.discovery.ports import DiscoveryFailed, Page
from federation.outbound.connection import ConnectionEnded
from federation.outbound.dial import Dialer
from federation.outbound.http1 import BadHttp, write_request
from federation.outbound.transport import Response, Unreachable

PATH = "/.well-known/matrix/server"
HTTPS_PORT = 443
MAX_BYTES = 50 * 1024
MAX_REDIRECTS = 5
TIMEOUT_S = 20.0
"""For the whole of it, redirects included."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@frozen
class HttpsWellKnown:
    """Implements `WellKnownFetcher`. A connection of its own each time: hosts are asked once a day."""

    _dialer: Dialer
    _clock: IReactorTime
    _user_agent: str

    async def fetch(self, host: str) -> Page:
        return await self.get(host, f"https://{host}{PATH}")

    async def get(self, host: str, url: str) -> Page:
        """Any page, in the same way. `host` is whose it is, for errors."""
        fetching = Deferred.fromCoroutine(self._follow(host, url))
        fetching.addTimeout(TIMEOUT_S, self._clock)
        try:
            return await fetching
        except DeferredTimeout:
            raise DiscoveryFailed(f"{host}: no answer within {TIMEOUT_S:g} s") from None
        except (Unreachable, ConnectionEnded, BadHttp) as error:
            raise DiscoveryFailed(str(error)) from None

    async def _follow(self, host: str, url: str) -> Page:
        """What the last of the pages says; a redirect that leads nowhere is such a page itself."""
        seen = {url}
        while True:
            response = await self._get(host, url)
            target = next_url(url, response)
            if target is None or target in seen or len(seen) > MAX_REDIRECTS:
                return Page(response.status, response.headers, response.body)
            seen.add(target)
            url = target

    async def _get(self, host: str, url: str) -> Response:
        parts = urlsplit(url)
        assert parts.hostname is not None
        port = parts.port or HTTPS_PORT
        address = Address(parts.hostname, port, tls_name=parts.hostname, host_header=parts.netloc)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = {"User-Agent": self._user_agent, "Accept": "application/json", "Connection": "close"}
        request = write_request("GET", path, address.host_header, headers, None)
        connection = await self._dialer.connect(host, address)
        try:
            return await connection.ask(request, MAX_BYTES)
        finally:
            connection.abort()


def next_url(url: str, response: Response) -> str | None:
    """Where a redirect leads, without a fragment; None for what is no redirect, or none that may be followed."""
    if response.status not in _REDIRECTS or "location" not in response.headers:
        return None
    try:
        target = urlsplit(urljoin(url, response.headers["location"]))
        if target.scheme != "https" or not target.hostname or target.port == 0 or target.username is not None:
            return None
    except ValueError:
        return None
    if not all(_is_plain(part) for part in _sent(target)):
        return None
    return target._replace(fragment="").geturl()


def _sent(target: SplitResult) -> Iterator[str]:
    yield target.netloc
    yield target.path
    yield target.query


def _is_plain(text: str) -> bool:
    """Whether it can stand in a request as it is."""
    return text.isascii() and text.isprintable() and " " not in text

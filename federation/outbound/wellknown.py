"""Fetching `/.well-known/matrix/server` over HTTPS, with redirects, from hosts that may be anybody's.

Spec: https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver
"""

from __future__ import annotations

from federation.discovery.ports import DiscoveryFailed, Page
from federation.outbound.transport import PeerError
from federation.outbound.web import Web, WebRequest
from federation.service import service

PATH = "/.well-known/matrix/server"
MAX_BYTES = 50 * 1024
MAX_REDIRECTS = 5
TIMEOUT_S = 20.0
"""For the whole of it, redirects included."""
HEADERS = {"Accept": "application/json", "Connection": "close"}
"""No connection is kept: hosts are asked once a day."""


@service
class HttpsWellKnown:
    """Implements `WellKnownFetcher`."""

    _web: Web

    async def fetch(self, host: str) -> Page:
        return await self.get(f"https://{host}{PATH}")

    async def get(self, url: str) -> Page:
        """Any page, in the same way. Raises `DiscoveryFailed`."""
        request = WebRequest(
            url, headers=HEADERS, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES, max_redirects=MAX_REDIRECTS, plain=False
        )
        try:
            answer = await self._web.fetch(request)
        except PeerError as error:
            raise DiscoveryFailed(str(error)) from None
        return Page(answer.status, answer.headers, answer.body)

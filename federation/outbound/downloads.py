"""Large things from other servers: their bodies go to a sink as they come, and are never whole in memory.

Spec: https://spec.matrix.org/v1.19/server-server-api/#content-repository
"""

from __future__ import annotations

from collections.abc import Mapping

from federation.outbound.client import FederationClient
from federation.outbound.transport import BadAnswer, Response, Sink
from federation.outbound.web import REDIRECTS, Web, WebRequest
from federation.service import service

TIMEOUT_S = 300.0
"""For the whole of a file."""


@service
class Downloads:
    """Fetches from peers, and from wherever they have put their files."""

    client: FederationClient
    web: Web

    async def get(
        self,
        destination: str,
        path: str,
        sink: Sink,
        *,
        max_bytes: int,
        timeout_s: float = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A signed GET whose body goes to `sink`; the answer without it. A redirect is followed once, unsigned.

        Raises `PeerError`, and what the sink raises.
        """
        answer = await self.client.download(
            destination, path, sink, max_bytes=max_bytes, timeout_s=timeout_s, headers=headers
        )
        if answer.status not in REDIRECTS:
            return answer
        where = answer.headers.get("location")
        if where is None:
            raise BadAnswer(destination, "it redirects to nowhere")
        return await self.follow(destination, where, sink, max_bytes=max_bytes, timeout_s=timeout_s)

    async def follow(
        self, destination: str, url: str, sink: Sink, *, max_bytes: int, timeout_s: float = TIMEOUT_S
    ) -> Response:
        """What a peer says is at an URL: the place it redirects to, or names in the `Location` of a part.

        Raises `PeerError`, and what the sink raises.
        """
        answer = await self.web.fetch(
            WebRequest(url, timeout_s=timeout_s, max_bytes=max_bytes, max_redirects=0, plain=False, sink=sink)
        )
        if answer.status != 200:
            raise BadAnswer(destination, f"there is nothing where it redirects to: status {answer.status}")
        return Response(answer.status, answer.headers, b"")

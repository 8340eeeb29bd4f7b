"""Asking a room's policy server for its signature.

Spec: https://spec.matrix.org/v1.19/server-server-api/#post_matrixpolicyv1sign
"""

from __future__ import annotations

from federation.outbound.client import FederationClient
from federation.outbound.patience import Patience
from federation.outbound.transport import BadAnswer
from federation.room.policy import KEY_ID
from federation.service import service

PATH = "/_matrix/policy/v1/sign"
TIMEOUT_S = 10.0
"""Somebody waits for it, and so does the room."""
MAX_BYTES = 64 * 1024
MOST_WAITING = 500
"""Questions that may wait for one policy server: it may be that of many rooms."""


@service
class PolicyQueries:
    """Asks policy servers."""

    client: FederationClient
    patience: Patience

    async def sign(self, server: str, event: bytes) -> str:
        """The signature of `server` on an event (canonical JSON), not verified yet. Raises `PeerError`."""

        async def ask() -> dict[str, dict[str, str]]:
            return await self.client.post(
                server,
                PATH,
                into=dict[str, dict[str, str]],
                body=event,
                timeout_s=TIMEOUT_S,
                max_bytes=MAX_BYTES,
            )

        signature = (await self.patience.ask(server, ask)).get(server, {}).get(KEY_ID)
        if signature is None:
            raise BadAnswer(server, "its answer holds no signature")
        return signature

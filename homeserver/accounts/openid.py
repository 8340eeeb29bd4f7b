"""OpenID tokens: proof for a third party of who somebody here is, and of nothing else.

    client ──request_token──> token ──(the client hands it on)──> service ──userinfo──> user id

They live an hour, are kept as hashes, and die with their account.

Spec: https://spec.matrix.org/v1.19/client-server-api/#openid
"""

from __future__ import annotations

import secrets

from federation.service import service
from homeserver.clock import Clock
from homeserver.errors import UnknownToken
from homeserver.http.authenticate import MAX_TOKEN, hash_token
from storage import openid as rows
from storage.database import Database

LIFETIME_S = 3600


@service
class OpenIdTokens:
    """Makes them, and tells whose they are."""

    _database: Database
    _clock: Clock
    _server_name: str

    async def issue(self, user_id: str) -> dict[str, str | int]:
        """A new token for somebody who is logged in, as clients are told of it."""
        token = f"gho_{secrets.token_urlsafe(32)}"
        now = self._clock.now_ms()
        await self._database.write(rows.add, hash_token(token), user_id, now + LIFETIME_S * 1000, now)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "matrix_server_name": self._server_name,
            "expires_in": LIFETIME_S,
        }

    async def owner_of(self, token: str) -> str:
        """The user id of whoever made a token. Raises UnknownToken, also for one that has expired."""
        owner = None
        if len(token) <= MAX_TOKEN:
            owner = await self._database.run(rows.owner, hash_token(token), self._clock.now_ms())
        if owner is None:
            raise UnknownToken("The token is not known, or has expired")
        return owner

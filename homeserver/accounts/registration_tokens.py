"""Registration tokens: words handed to those who may come in, from the settings or from the database.

Spec: https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from federation.service import service
from homeserver.accounts.interactive import Attempt
from homeserver.clock import Clock
from homeserver.errors import MatrixError
from homeserver.http.limits import RateLimiter, address_key
from storage import registration_tokens as stored
from storage.database import Database

REGISTRATION_TOKEN = "m.login.registration_token"
MAX_TOKEN = 64


@service
class RegistrationTokens:
    """Knows which tokens are good. Those of the settings are good any number of times."""

    _database: Database
    _clock: Clock
    _from_settings: Sequence[str]

    def is_from_settings(self, token: str) -> bool:
        return any(secrets.compare_digest(token.encode(), known.encode()) for known in self._from_settings)

    async def is_valid(self, token: str) -> bool:
        """Whether somebody could register with this token now."""
        if self.is_from_settings(token):
            return True
        if not token or len(token) > MAX_TOKEN or "\0" in token:
            return False
        return await self._database.run(stored.is_valid, token, self._clock.now_ms())


@service
class RegistrationTokenStage:
    """Passed with a good token, which is what it gives. Guessing is slowed down per address."""

    _tokens: RegistrationTokens
    _limits: RateLimiter
    type = REGISTRATION_TOKEN

    async def judge(self, attempt: Attempt) -> str:
        token = attempt.auth.get("token")
        if not isinstance(token, str):
            raise MatrixError(401, "M_MISSING_PARAM", "Missing parameter 'auth.token'")
        key = address_key(attempt.address)
        self._limits.charge("login_failed", key)
        if not await self._tokens.is_valid(token):
            raise MatrixError(401, "M_UNAUTHORIZED", "This registration token is not valid")
        self._limits.refund("login_failed", key)
        return token

"""Logging in: a name and a password for a session.

Spec: https://spec.matrix.org/v1.19/client-server-api/#login
"""

from __future__ import annotations

from federation.service import service
from homeserver.accounts.credentials import Credentials
from homeserver.accounts.sessions import Opened, Sessions
from homeserver.http.limits import RateLimiter


@service
class Login:
    """Lets people in."""

    _credentials: Credentials
    _sessions: Sessions
    _limits: RateLimiter

    async def by_password(
        self,
        named: str | None,
        password: str | None,
        *,
        device_id: str | None,
        display_name: str | None,
        refreshable: bool,
    ) -> Opened:
        """Open a session for whoever knows the password. Raises as `Credentials.require_account` does."""
        account = await self._credentials.require_account(named, password)
        self._limits.charge("login_account", account.user_id)
        return await self._sessions.open(
            account.user_id, device_id=device_id, display_name=display_name, refreshable=refreshable
        )

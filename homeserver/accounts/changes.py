"""What people do to their own account: another password, fewer devices, the end. All of it confirmed by password."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from federation.service import service
from homeserver.accounts.interactive import PASSWORD, InteractiveAuth
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.ports import Listeners
from homeserver.accounts.sessions import Sessions
from homeserver.http.route import Requester
from storage.accounts import deactivate_account, departures, end_departure, set_password_hash
from storage.database import Database

log = structlog.get_logger("homeserver.accounts")


@service
class AccountChanges:
    """Changes an account for its owner."""

    _database: Database
    _passwords: Passwords
    _sessions: Sessions
    _interactive: InteractiveAuth
    _listeners: Listeners

    async def require_owner(self, operation: str, who: Requester, auth: Mapping[str, Any] | None, address: str) -> None:
        """Let pass only who confirms `operation` with their password. Raises `AuthenticationNeeded`."""
        await self._interactive.require(operation, [[PASSWORD]], auth, user_id=who.user_id, address=address)

    def check_password(self, new_password: str) -> None:
        """Raise `MatrixError` (M_WEAK_PASSWORD) if this may not become anybody's password."""
        self._passwords.check_strength(new_password)

    async def change_password(self, who: Requester, new_password: str, *, logout_devices: bool) -> None:
        """Set a password; with `logout_devices` all devices but the asking one are deleted.

        Raises `MatrixError` (M_WEAK_PASSWORD).
        """
        self._passwords.check_strength(new_password)
        await self._database.write(set_password_hash, who.user_id, await self._passwords.hash(new_password))
        if logout_devices:
            await self._sessions.end_all(who.user_id, but=who.device_id)

    async def delete_devices(self, who: Requester, device_ids: Sequence[str]) -> None:
        """Delete devices of one's own; those that are not there do not matter."""
        await self._sessions.end_devices(who.user_id, device_ids)

    async def deactivate(self, user_id: str, *, erase: bool) -> None:
        """Close an account for good. Its name stays taken.

        Nobody can use it any more before anything of it is taken down, so that nothing grows back. What a crash
        interrupts is taken up at the next start.
        """
        await self._database.write(deactivate_account, user_id, erase=erase)
        await self._take_down(user_id, erase=erase)

    async def resume(self) -> None:
        """Take down what was left of closed accounts when the server stopped."""
        for user_id, erase in await self._database.run(departures):
            try:
                await self._take_down(user_id, erase=erase)
            except Exception:  # then at the next start, and the others now
                log.exception("a closed account could not be taken down", user=user_id)

    async def _take_down(self, user_id: str, *, erase: bool) -> None:
        self._sessions.authenticate.forget_user(user_id)
        await self._sessions.end_all(user_id)
        await self._listeners.account_deactivated(user_id, erase=erase)
        await self._database.write(end_departure, user_id)

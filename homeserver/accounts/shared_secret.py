"""Registration by a secret that whoever runs the server shares with their tools: even where registration is closed.

    GET  -> nonce            POST {nonce, username, password, admin, mac}
                             mac = HMAC-SHA1(secret, nonce NUL username NUL password NUL admin|notadmin [NUL user type])

COMPAT: the endpoint and its MAC are Synapse's, which scripts, bots' set-ups and Complement speak.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict

from attrs import define, field

from federation.room.identifiers import UserId
from homeserver.accounts.registration import Registration
from homeserver.clock import Clock
from homeserver.errors import Forbidden, MatrixError

NONCE_MS = 60_000
MAX_NONCES = 1000


@define
class SharedSecretRegistration:
    """Hands out nonces and makes accounts for whoever knows the secret."""

    _secret: str | None
    _clock: Clock
    _registration: Registration
    _nonces: OrderedDict[str, int] = field(factory=OrderedDict, init=False)

    def new_nonce(self) -> str:
        """A number used once, within a minute. Raises `MatrixError` where no secret is set."""
        self._require_secret()
        now = self._clock.now_ms()
        while self._nonces and next(iter(self._nonces.values())) <= now:
            self._nonces.popitem(last=False)
        if len(self._nonces) >= MAX_NONCES:
            self._nonces.popitem(last=False)
        nonce = secrets.token_hex(32)
        self._nonces[nonce] = now + NONCE_MS
        return nonce

    async def register(
        self,
        *,
        nonce: str,
        username: str,
        password: str,
        mac: str,
        is_admin: bool = False,
        user_type: str | None = None,
        displayname: str | None = None,
    ) -> UserId:
        """Make the account. Raises `MatrixError` for an unknown nonce or a name that cannot be, `Forbidden` for a MAC
        of another secret.
        """
        secret = self._require_secret()
        expires = self._nonces.pop(nonce, None)
        if expires is None or expires <= self._clock.now_ms():
            raise MatrixError(400, "M_UNKNOWN", "Unknown nonce")
        words = [nonce, username, password, "admin" if is_admin else "notadmin", *([user_type] if user_type else [])]
        if any("\0" in word for word in words):
            raise MatrixError(400, "M_INVALID_PARAM", "NUL is not allowed here")
        expected = hmac.new(secret.encode(), b"\0".join(word.encode() for word in words), hashlib.sha1).hexdigest()
        if not hmac.compare_digest(expected.encode(), mac.encode()):
            raise Forbidden("The MAC is not right")
        return await self._registration.make(username, password, is_admin=is_admin, displayname=displayname)

    def _require_secret(self) -> str:
        if not self._secret:
            raise MatrixError(400, "M_UNKNOWN", "Shared secret registration is not enabled on this server")
        return self._secret

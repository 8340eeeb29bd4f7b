"""Whether somebody is who they say: the one place where a user's password is compared, and guessing is slowed down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from federation.room.identifiers import InvalidIdentifier, UserId, localpart_of, parse_user_id, server_of
from federation.service import service
from homeserver.accounts.passwords import Passwords
from homeserver.errors import BadJson, Forbidden, MatrixError, MissingParam
from homeserver.http.limits import RateLimiter
from storage.accounts import Account, get_account, set_password_hash
from storage.database import Database

WRONG = "Wrong user name or password"
"""The same words whichever of the two it was."""


class Identifier(msgspec.Struct, frozen=True):
    """Spec: https://spec.matrix.org/v1.19/client-server-api/#identifier-types"""

    type: str
    user: str | None = None


class PasswordAttempt(msgspec.Struct, frozen=True):
    """`m.login.password` as clients send it, when they log in and when they confirm something."""

    password: str | None = None
    identifier: Identifier | None = None
    user: str | None = None
    """COMPAT: the name as it was sent before there were identifiers, which bots and old SDKs still do."""

    def named_user(self) -> str | None:
        """Whom it names. Raises `MatrixError` for kinds of identifiers that no account here has."""
        if self.identifier is None:
            return self.user
        if self.identifier.type == "m.id.user":
            return self.identifier.user or self.user
        if self.identifier.type in ("m.id.thirdparty", "m.id.phone"):
            raise Forbidden(WRONG)
        raise MatrixError(400, "M_UNKNOWN", f"Unknown type of identifier: {self.identifier.type}")


def parse_attempt(auth: Mapping[str, Any]) -> PasswordAttempt:
    """Read an attempt out of a client's `auth`. Raises `BadJson`."""
    try:
        return msgspec.convert(auth, PasswordAttempt)
    except msgspec.ValidationError as error:
        raise BadJson(f"'auth': {error}") from None


@service
class Credentials:
    """Judges names and passwords of this server's accounts."""

    _database: Database
    _passwords: Passwords
    _limits: RateLimiter
    _server_name: str

    async def require_account(self, named: str | None, password: str | None) -> Account:
        """The account that a name and a password are those of.

        The name may be a localpart or a whole id, in any case. Raises `Forbidden` where they do not fit,
        `MissingParam` where one is missing, `LimitExceeded` after too many wrong ones for that account.
        """
        if named is None:
            raise MissingParam("Missing parameter 'identifier'")
        if password is None:
            raise MissingParam("Missing parameter 'password'")
        account = await self._find(named)
        key = account.user_id if account is not None else named[:255]
        self._limits.charge("login_failed", key)
        kept = account.password_hash if account is not None else None
        judgement = await self._passwords.judge(password, kept)
        if account is None or not judgement.matches:
            if account is not None and account.deactivated:
                raise Forbidden("This account has been deactivated", "M_USER_DEACTIVATED")
            raise Forbidden(WRONG)
        self._limits.refund("login_failed", key)
        if judgement.outdated:
            renewed = await self._passwords.hash(password)
            await self._database.write(set_password_hash, account.user_id, renewed, only_if=kept)
        return account

    async def _find(self, named: str) -> Account | None:
        try:
            exact = self.user_id_of(named)
        except InvalidIdentifier:
            return None
        account = await self._database.run(get_account, exact)
        if account is None and exact != exact.lower():
            lower = f"@{localpart_of(exact).lower()}:{self._server_name}"
            account = await self._database.run(get_account, lower)
        return account

    def is_name_of(self, named: str, user_id: str | None) -> bool:
        """Whether a client that says `named` means this account."""
        try:
            meant = self.user_id_of(named)
        except InvalidIdentifier:
            return False
        return user_id in (meant, f"@{localpart_of(meant).lower()}:{self._server_name}")

    def user_id_of(self, named: str) -> UserId:
        """The id on this server that a localpart or whole id means. Raises `InvalidIdentifier` for other servers'."""
        user_id = parse_user_id(named if named.startswith("@") else f"@{named}:{self._server_name}")
        if server_of(user_id) != self._server_name:
            raise InvalidIdentifier("user id", "is not of this server")
        return user_id

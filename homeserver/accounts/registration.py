"""New accounts: which names are to be had, who may have one, and making it."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Collection, Mapping
from typing import Any

from attrs import define

from config.registration import Registration as RegistrationSettings
from federation.room.identifiers import InvalidIdentifier, UserId, parse_new_user_localpart, parse_user_id
from homeserver.accounts.interactive import DUMMY, InteractiveAuth
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.ports import Listeners
from homeserver.accounts.registration_tokens import REGISTRATION_TOKEN, RegistrationTokens
from homeserver.clock import Clock
from homeserver.errors import Forbidden, MatrixError
from homeserver.http.limits import RateLimiter, address_key
from storage import registration_tokens as stored_tokens
from storage.accounts import Account, add_account, get_account, promote_guest
from storage.database import Database
from storage.ports import Cursor


@define
class Registration:
    """Makes accounts, for whoever may have one."""

    _database: Database
    _clock: Clock
    _settings: RegistrationSettings
    _server_name: str
    _passwords: Passwords
    _tokens: RegistrationTokens
    _interactive: InteractiveAuth
    _limits: RateLimiter
    _listeners: Listeners
    _reserved: Collection[str] = ()
    """Localparts that are the server's own, whether their accounts are there yet or not."""

    def check_open(self) -> None:
        """Raise `Forbidden` where people cannot register by themselves."""
        if not self._settings.enabled:
            raise Forbidden("Registration is not open on this server")

    def check_guests(self) -> None:
        """Raise `Forbidden` where there are no guests."""
        if not self._settings.allow_guests:
            raise Forbidden("This server has no guests", "M_GUEST_ACCESS_FORBIDDEN")

    async def require_free_name(self, username: str) -> UserId:
        """The id that an account of this name would have.

        Capital letters are taken as small ones. Raises M_INVALID_USERNAME or M_USER_IN_USE.
        """
        user_id = self._parse_name(username)
        if await self._database.run(get_account, user_id) is not None:
            raise _name_in_use()
        return user_id

    async def require_permission(self, auth: Mapping[str, Any] | None, address: str) -> Mapping[str, str]:
        """Let through who has done what registering takes: a token where one is required, or nothing much.

        Raises `AuthenticationNeeded`. The answer goes to `make` as `proofs`.
        """
        flows = [[REGISTRATION_TOKEN]] if self._settings.requires_token else [[DUMMY]]
        return await self._interactive.require("register", flows, auth, user_id=None, address=address)

    async def make(
        self,
        username: str | None,
        password: str | None,
        *,
        proofs: Mapping[str, str] | None = None,
        is_admin: bool = False,
        displayname: str | None = None,
    ) -> UserId:
        """Make an account. Without a name it gets a random one, without a password nobody can log in to it.

        Raises as `require_free_name` and `Passwords.check_strength` do, and `Forbidden` if the registration token
        was used up meanwhile.
        """
        user_id = self._parse_name(username if username is not None else _random_name())
        password_hash = None
        if password is not None:
            self._passwords.check_strength(password)
            password_hash = await self._passwords.hash(password)
        account = Account(user_id, password_hash, self._clock.now_ms(), is_admin=is_admin)
        await self._write(add_account, account, proofs or {})
        await self._listeners.account_registered(user_id, displayname)
        return user_id

    async def make_guest(self) -> UserId:
        """Make an account for a guest: no password, and no way back after logout."""
        user_id = self._parse_name(f"guest-{_random_name()}")
        await self._write(add_account, Account(user_id, None, self._clock.now_ms(), is_guest=True), {})
        await self._listeners.account_registered(user_id, None)
        return user_id

    async def promote_guest(self, user_id: UserId, password: str, proofs: Mapping[str, str]) -> UserId:
        """Make of a guest somebody with an account: devices, rooms and all stay. Raises as `make` does."""
        self._passwords.check_strength(password)
        account = Account(user_id, await self._passwords.hash(password), self._clock.now_ms())
        await self._write(_promote, account, proofs)
        return user_id

    def check_limit(self, address: str) -> None:
        """Raise `LimitExceeded` if too many accounts were made from this address lately."""
        self._limits.check("registration", address_key(address))

    def charge(self, address: str) -> None:
        """Count one registration from this address."""
        self._limits.charge("registration", address_key(address))

    async def _write(
        self, write: Callable[[Cursor, Account], bool], account: Account, proofs: Mapping[str, str]
    ) -> None:
        token = proofs.get(REGISTRATION_TOKEN)
        counted = token if token is not None and not self._tokens.is_from_settings(token) else None
        outcome = await self._database.write(_write_with_token, write, account, counted, self._clock.now_ms())
        if outcome == "name":
            raise _name_in_use()
        if outcome == "token":
            raise Forbidden("The registration token is used up")

    def _parse_name(self, username: str) -> UserId:
        try:
            localpart = parse_new_user_localpart(username.lower())
            if localpart in self._reserved:
                raise _name_in_use()
            if localpart.startswith("_"):
                raise InvalidIdentifier("user name", "may not begin with _, which bridges' accounts do")
            return parse_user_id(f"@{localpart}:{self._server_name}", historical=False)
        except InvalidIdentifier as error:
            raise MatrixError(400, "M_INVALID_USERNAME", str(error)) from None


def _write_with_token(
    cursor: Cursor, write: Callable[[Cursor, Account], bool], account: Account, token: str | None, now: int
) -> str:
    """Write the account and count the token's use, or neither: then says which of the two was the trouble."""
    if token is not None and not stored_tokens.is_valid(cursor, token, now):
        return "token"
    if not write(cursor, account):
        return "name"
    if token is not None:
        stored_tokens.use_token(cursor, token, now)
    return ""


def _promote(cursor: Cursor, account: Account) -> bool:
    assert account.password_hash is not None
    return promote_guest(cursor, account.user_id, account.password_hash)


def _name_in_use() -> MatrixError:
    return MatrixError(400, "M_USER_IN_USE", "This user name is taken")


def _random_name() -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))

"""Logins and how they last: a session is a device with its tokens.

    open ──> access token ─────────────────────────────> end (logout, device deleted, account closed)
                  │ with a refresh token: expires               ^
                  v                                             │
             expired (soft logout) ── refresh ──> a new pair ───┘

Tokens are random, shown once, and kept as hashes. Each is prefixed with what it is, so that one which got out can be
recognised by those who search for such things.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence

import msgspec
from attrs import define, field

from config.sessions import Sessions as SessionSettings
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.ports import DeviceBook, DeviceChanges, Listeners
from homeserver.clock import Clock
from homeserver.errors import InvalidParam, UnknownToken
from homeserver.http.authenticate import Session, TokenAuthenticate, hash_token
from homeserver.http.route import Requester
from storage import device_keys as key_rows
from storage import sessions as stored
from storage.database import Database
from storage.sessions import TokenPair

MAX_DEVICE_ID = 255
MAX_DEVICE_NAME = 100


class Opened(msgspec.Struct, frozen=True):
    """A session as its client gets it: the only time that its tokens are seen."""

    user_id: str
    device_id: str
    access_token: str
    refresh_token: str | None
    expires_in_ms: int | None

    def to_json(self) -> dict[str, str | int]:
        found: dict[str, str | int] = {"access_token": self.access_token}
        if self.refresh_token is not None:
            found["refresh_token"] = self.refresh_token
        if self.expires_in_ms is not None:
            found["expires_in_ms"] = self.expires_in_ms
        return found


@define
class Sessions:
    """Opens, refreshes, finds and ends sessions. `authenticate` is what the HTTP edge asks."""

    _database: Database
    _clock: Clock
    _settings: SessionSettings
    _listeners: Listeners
    _last_seen: LastSeen
    _book: DeviceBook
    authenticate: TokenAuthenticate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.authenticate = TokenAuthenticate(self, self._clock, self._last_seen.note)

    async def open(
        self, user_id: str, *, device_id: str | None = None, display_name: str | None = None, refreshable: bool = False
    ) -> Opened:
        """Log a device in. A device that is known already is the same one with new tokens.

        Raises `InvalidParam` for a device id that cannot be.
        """
        if device_id is None:
            device_id = _new_device_id()
        check_device_id(device_id)
        if display_name is not None:
            display_name = display_name.replace("\0", "")[:MAX_DEVICE_NAME]
        opened, pair = self._new_pair(user_id, device_id, refreshable)
        now_ms = self._clock.now_ms()
        await self._book.write(user_id, lambda changes: _open(changes, user_id, device_id, display_name, pair, now_ms))
        self.authenticate.forget_device(user_id, device_id)
        return opened

    async def refresh(self, refresh_token: str) -> Opened:
        """Give a new pair of tokens for a refresh token; the old pair lives until the new one is used.

        Raises `UnknownToken`; with soft logout if the token was good once and is too old now.
        """
        refresh = hash_token(refresh_token)
        row = await self._database.run(stored.find_refresh, refresh)
        if row is None:
            raise UnknownToken("Unknown refresh token")
        now = self._clock.now_ms()
        if row.expires_ts is not None and row.expires_ts <= now:
            raise UnknownToken("The refresh token has expired", soft_logout=True)
        opened, pair = self._new_pair(row.user_id, row.device_id, refreshable=True)
        dead = await self._database.write(stored.refresh_session, refresh, pair, now)
        if dead is None:
            raise UnknownToken("Unknown refresh token")
        for access in dead:
            self.authenticate.forget(access)
        return opened

    async def end(self, who: Requester) -> None:
        """Log out: the device goes with its tokens."""
        await self.end_devices(who.user_id, [who.device_id])

    async def end_devices(self, user_id: str, device_ids: Sequence[str]) -> None:
        """Delete devices with their tokens; those that are not there do not matter."""
        await self._ended(user_id, await self._book.write(user_id, lambda changes: _end(changes, user_id, device_ids)))

    async def end_all(self, user_id: str, *, but: str | None = None) -> None:
        """Delete all devices of a user, all but one perhaps."""
        await self._ended(user_id, await self._book.write(user_id, lambda changes: _end_all(changes, user_id, but)))

    async def find_session(self, token_hash: bytes) -> Session | None:
        """For `TokenAuthenticate`: a token that memory does not know."""
        row = await self._database.run(stored.find_session, token_hash)
        if row is None:
            return None
        if row.unsettled and row.refresh is not None:
            for access in await self._database.write(stored.settle, row.refresh):
                self.authenticate.forget(access)
        who = Requester(row.user_id, row.device_id, token_hash, row.is_guest, row.is_admin)
        return Session(who, row.expires_ts, refreshable=row.refresh is not None)

    async def _ended(self, user_id: str, device_ids: Sequence[str]) -> None:
        for device_id in device_ids:
            self.authenticate.forget_device(user_id, device_id)
        await self._listeners.devices_removed(user_id, device_ids)

    def _new_pair(self, user_id: str, device_id: str, refreshable: bool) -> tuple[Opened, TokenPair]:
        settings, now = self._settings, self._clock.now_ms()
        lifetime = settings.refreshable_access_token_lifetime_ms if refreshable else settings.access_token_lifetime_ms
        refresh_lifetime = settings.refresh_token_lifetime_ms
        access = f"gha_{secrets.token_urlsafe(32)}"
        refresh = f"ghr_{secrets.token_urlsafe(32)}" if refreshable else None
        pair = TokenPair(
            hash_token(access),
            now + lifetime if lifetime is not None else None,
            hash_token(refresh) if refresh is not None else None,
            now + refresh_lifetime if refresh_lifetime is not None else None,
        )
        return Opened(user_id, device_id, access, refresh, lifetime), pair


def check_device_id(device_id: str) -> None:
    """Raise `InvalidParam` for what cannot be the id of a device."""
    if not device_id or len(device_id.encode()) > MAX_DEVICE_ID or "\0" in device_id:
        raise InvalidParam(f"A device id has 1 to {MAX_DEVICE_ID} bytes, none of them NUL")


def _open(
    changes: DeviceChanges, user_id: str, device_id: str, display_name: str | None, pair: TokenPair, now_ms: int
) -> None:
    if stored.open_session(changes.cursor, user_id, device_id, display_name, pair, now_ms):
        keys = key_rows.cross_signing_of(changes.cursor, [user_id]).get(user_id, {})
        if any(key.public_key == device_id for key in keys.values()):
            raise InvalidParam("A device can't have the id of a cross-signing key")
        changes.added(device_id)


def _end(changes: DeviceChanges, user_id: str, device_ids: Sequence[str]) -> Sequence[str]:
    gone = stored.delete_devices(changes.cursor, user_id, device_ids)
    changes.removed(gone)
    return gone


def _end_all(changes: DeviceChanges, user_id: str, but: str | None) -> Sequence[str]:
    gone = stored.delete_all_devices(changes.cursor, user_id, but=but)
    changes.removed(gone)
    return gone


def _new_device_id() -> str:
    return "".join(secrets.choice(string.ascii_uppercase) for _ in range(10))

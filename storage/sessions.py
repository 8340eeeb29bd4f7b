"""Devices and the tokens that let them in, kept as hashes only.

A device that can refresh has a row in both token tables, and each refresh makes a new pair beside the old one:

    access_tokens    token_hash  user_id  device_id  expires_ts  refresh_hash
                     A1          @a:x     PHONE      12:05       R1
                     A2          @a:x     PHONE      12:09       R2
    refresh_tokens   token_hash  user_id  device_id  expires_ts  predecessor
                     R1          @a:x     PHONE                  -
                     R2          @a:x     PHONE                  R1

The old pair dies when A2 or R2 is first used (`settle`), which proves that the client has them: until then a client
that never got the answer may ask again with R1.
Spec: https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from storage.ports import Cursor


class TokenPair(msgspec.Struct, frozen=True):
    """Tokens to be written, as hashes. Times are in ms since 1970; None is never."""

    access: bytes
    access_expires_ts: int | None = None
    refresh: bytes | None = None
    refresh_expires_ts: int | None = None


class SessionRow(msgspec.Struct, frozen=True):
    """What an access token stands for."""

    user_id: str
    device_id: str
    is_guest: bool
    is_admin: bool
    expires_ts: int | None
    refresh: bytes | None
    """The refresh token it came with."""
    unsettled: bool
    """Whether the pair before it is still alive: call `settle`."""


class RefreshRow(msgspec.Struct, frozen=True):
    """What a refresh token stands for."""

    user_id: str
    device_id: str
    expires_ts: int | None
    unsettled: bool


class Device(msgspec.Struct, frozen=True):
    device_id: str
    display_name: str | None
    last_seen_ts: int | None
    last_seen_ip: str | None
    user_agent: str | None


class DeviceUse(msgspec.Struct, frozen=True):
    """That a device was here."""

    user_id: str
    device_id: str
    ts: int
    ip: str
    user_agent: str


def open_session(
    cursor: Cursor, user_id: str, device_id: str, display_name: str | None, tokens: TokenPair, now: int
) -> bool:
    """Let a device in, a known one or a new one (which gets `display_name`). Its earlier tokens die.

    True if it is new.
    """
    cursor.execute(
        "INSERT INTO devices (user_id, device_id, display_name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (user_id, device_id, display_name),
    )
    is_new = cursor.rowcount == 1
    if not is_new:
        _delete_tokens(cursor, user_id, [device_id])
    _add_pair(cursor, user_id, device_id, tokens, None, now)
    return is_new


def find_session(cursor: Cursor, access: bytes) -> SessionRow | None:
    """What an access token stands for; None if it is none, or its account is closed. Expired ones are found too."""
    row = cursor.execute(
        "SELECT t.user_id, t.device_id, u.is_guest, u.is_admin, t.expires_ts, t.refresh_hash, r.predecessor IS NOT NULL"
        " FROM access_tokens t JOIN users u ON u.user_id = t.user_id"
        " LEFT JOIN refresh_tokens r ON r.token_hash = t.refresh_hash"
        " WHERE t.token_hash = ? AND u.deactivated = 0",
        (access,),
    ).fetchone()
    if row is None:
        return None
    user_id, device_id, is_guest, is_admin, expires_ts, refresh, unsettled = row
    return SessionRow(user_id, device_id, bool(is_guest), bool(is_admin), expires_ts, _bytes(refresh), bool(unsettled))


def find_refresh(cursor: Cursor, refresh: bytes) -> RefreshRow | None:
    """What a refresh token stands for; None if it is none, or its account is closed."""
    row = cursor.execute(
        "SELECT r.user_id, r.device_id, r.expires_ts, r.predecessor IS NOT NULL"
        " FROM refresh_tokens r JOIN users u ON u.user_id = r.user_id WHERE r.token_hash = ? AND u.deactivated = 0",
        (refresh,),
    ).fetchone()
    return RefreshRow(row[0], row[1], row[2], bool(row[3])) if row is not None else None


def refresh_session(cursor: Cursor, refresh: bytes, tokens: TokenPair, now: int) -> list[bytes] | None:
    """Write a new pair for the device of `refresh`, which stays alive until the new one is used.

    Gives the access tokens that died: those of a pair that was made from `refresh` before and never used. None if
    `refresh` is gone.
    """
    row = find_refresh(cursor, refresh)
    if row is None:
        return None
    dead = settle(cursor, refresh) if row.unsettled else []
    unused = cursor.execute("SELECT token_hash FROM refresh_tokens WHERE predecessor = ?", (refresh,)).fetchall()
    for (token_hash,) in unused:
        dead += _delete_pair(cursor, bytes(token_hash))
    _add_pair(cursor, row.user_id, row.device_id, tokens, refresh, now)
    return dead


def settle(cursor: Cursor, refresh: bytes) -> list[bytes]:
    """The pair of `refresh` is in use: the one before it dies. Gives the access tokens that died."""
    row = cursor.execute("SELECT predecessor FROM refresh_tokens WHERE token_hash = ?", (refresh,)).fetchone()
    if row is None or row[0] is None:
        return []
    dead = _delete_pair(cursor, bytes(row[0]))
    cursor.later("UPDATE refresh_tokens SET predecessor = NULL WHERE token_hash = ?", (refresh,))
    return dead


def list_devices(cursor: Cursor, user_id: str) -> list[Device]:
    """All devices of a user, by id."""
    rows = cursor.execute(f"{_SELECT_DEVICE} WHERE user_id = ? ORDER BY device_id", (user_id,)).fetchall()
    return [Device(*row) for row in rows]


def get_device(cursor: Cursor, user_id: str, device_id: str) -> Device | None:
    row = cursor.execute(f"{_SELECT_DEVICE} WHERE user_id = ? AND device_id = ?", (user_id, device_id)).fetchone()
    return Device(*row) if row is not None else None


def rename_device(cursor: Cursor, user_id: str, device_id: str, display_name: str) -> bool:
    """False if there is no such device."""
    cursor.execute(
        "UPDATE devices SET display_name = ? WHERE user_id = ? AND device_id = ?", (display_name, user_id, device_id)
    )
    return cursor.rowcount == 1


def delete_devices(cursor: Cursor, user_id: str, device_ids: Sequence[str]) -> list[str]:
    """Delete devices with their tokens. Gives those that were there."""
    known = {device.device_id for device in list_devices(cursor, user_id)}
    gone = sorted(known.intersection(device_ids))
    _delete_tokens(cursor, user_id, gone)
    for device_id in gone:
        cursor.later("DELETE FROM devices WHERE user_id = ? AND device_id = ?", (user_id, device_id))
    return gone


def delete_all_devices(cursor: Cursor, user_id: str, *, but: str | None = None) -> list[str]:
    """Delete all devices of a user that are logged in with their tokens, all but one perhaps. Gives them.

    A dehydrated one is there for when no other is, so it stays.
    """
    kept = {but, *(row[0] for row in _dehydrated(cursor, user_id))}
    device_ids = [device.device_id for device in list_devices(cursor, user_id) if device.device_id not in kept]
    return delete_devices(cursor, user_id, device_ids)


def _dehydrated(cursor: Cursor, user_id: str) -> list[tuple[Any, ...]]:
    return cursor.execute("SELECT device_id FROM dehydrated_devices WHERE user_id = ?", (user_id,)).fetchall()


def record_uses(cursor: Cursor, uses: Sequence[DeviceUse]) -> None:
    """Write down when and from where devices were last here; those that are gone by now stay gone."""
    for use in uses:
        cursor.later(
            "UPDATE devices SET last_seen_ts = ?, last_seen_ip = ?, user_agent = ? WHERE user_id = ? AND device_id = ?",
            (use.ts, use.ip, use.user_agent, use.user_id, use.device_id),
        )


_SELECT_DEVICE = "SELECT device_id, display_name, last_seen_ts, last_seen_ip, user_agent FROM devices"


def _add_pair(
    cursor: Cursor, user_id: str, device_id: str, tokens: TokenPair, predecessor: bytes | None, now: int
) -> None:
    cursor.insert_many(
        "access_tokens",
        ("token_hash", "user_id", "device_id", "created_ts", "expires_ts", "refresh_hash"),
        [(tokens.access, user_id, device_id, now, tokens.access_expires_ts, tokens.refresh)],
    )
    if tokens.refresh is not None:
        cursor.insert_many(
            "refresh_tokens",
            ("token_hash", "user_id", "device_id", "created_ts", "expires_ts", "predecessor"),
            [(tokens.refresh, user_id, device_id, now, tokens.refresh_expires_ts, predecessor)],
        )


def _delete_pair(cursor: Cursor, refresh: bytes) -> list[bytes]:
    rows = cursor.execute("SELECT token_hash FROM access_tokens WHERE refresh_hash = ?", (refresh,)).fetchall()
    dead = [bytes(token_hash) for (token_hash,) in rows]
    for access in dead:
        cursor.later("DELETE FROM access_tokens WHERE token_hash = ?", (access,))
    cursor.later("DELETE FROM refresh_tokens WHERE token_hash = ?", (refresh,))
    return dead


def _delete_tokens(cursor: Cursor, user_id: str, device_ids: Sequence[str]) -> None:
    for device_id in device_ids:
        cursor.later("DELETE FROM access_tokens WHERE user_id = ? AND device_id = ?", (user_id, device_id))
        cursor.later("DELETE FROM refresh_tokens WHERE user_id = ? AND device_id = ?", (user_id, device_id))


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if value is not None else None

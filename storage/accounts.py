"""The accounts of this server: one row each, which outlives the account, so that no name is given twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from storage.ports import Cursor
from storage.sql import among

_COLUMNS = "user_id, password_hash, created_ts, is_guest, is_admin, deactivated, erased"


class Account(msgspec.Struct, frozen=True):
    """Someone whose home this server is, or was (`deactivated`)."""

    user_id: str
    password_hash: str | None
    """In the form of the scheme that made it (`$argon2id$…`, `$2b$…`); None where no password lets in."""
    created_ts: int
    is_guest: bool = False
    is_admin: bool = False
    deactivated: bool = False
    erased: bool = False
    """Whether the person asked for everything to be wiped out."""


def get_account(cursor: Cursor, user_id: str) -> Account | None:
    row = cursor.execute(f"SELECT {_COLUMNS} FROM users WHERE user_id = ?", (user_id,)).fetchone()
    return _account(row) if row is not None else None


def existing(cursor: Cursor, user_ids: Sequence[str]) -> set[str]:
    """Those of some people who have, or had, an account."""
    if not user_ids:
        return set()
    condition, parameters = among(cursor, "user_id", user_ids)
    return {
        user_id for (user_id,) in cursor.execute(f"SELECT user_id FROM users WHERE {condition}", parameters).fetchall()
    }


def add_account(cursor: Cursor, account: Account) -> bool:
    """Write a new account. False, and nothing written, if there is or was one of that name."""
    cursor.execute(
        f"INSERT INTO users ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            account.user_id,
            account.password_hash,
            account.created_ts,
            int(account.is_guest),
            int(account.is_admin),
            int(account.deactivated),
            int(account.erased),
        ),
    )
    return cursor.rowcount == 1


def set_password_hash(cursor: Cursor, user_id: str, password_hash: str | None, *, only_if: str | None = None) -> None:
    """Change how a password is kept; with `only_if` only while it is still kept as that."""
    if only_if is None:
        cursor.later("UPDATE users SET password_hash = ? WHERE user_id = ?", (password_hash, user_id))
    else:
        cursor.later(
            "UPDATE users SET password_hash = ? WHERE user_id = ? AND password_hash = ?",
            (password_hash, user_id, only_if),
        )


def promote_guest(cursor: Cursor, user_id: str, password_hash: str) -> bool:
    """Make a guest's account one like others'. False, and nothing written, where it is none, or closed."""
    cursor.execute(
        "UPDATE users SET is_guest = 0, password_hash = ? WHERE user_id = ? AND is_guest = 1 AND deactivated = 0",
        (password_hash, user_id),
    )
    return cursor.rowcount == 1


def guests_among(cursor: Cursor, user_ids: Sequence[str]) -> list[str]:
    """Those of some people who are guests here."""
    if not user_ids:
        return []
    condition, parameters = among(cursor, "user_id", user_ids)
    rows = cursor.execute(f"SELECT user_id FROM users WHERE {condition} AND is_guest = 1", parameters).fetchall()
    return sorted(user_id for (user_id,) in rows)


def deactivate_account(cursor: Cursor, user_id: str, *, erase: bool) -> None:
    """Close an account for good, and remember that what goes with it has to be taken down. Its sessions are a matter of
    `storage.sessions`.
    """
    cursor.later(
        "UPDATE users SET password_hash = NULL, deactivated = 1, erased = ? WHERE user_id = ?", (int(erase), user_id)
    )
    cursor.later(
        "INSERT INTO departures (user_id, erase) VALUES (?, ?)"
        " ON CONFLICT (user_id) DO UPDATE SET erase = excluded.erase",
        (user_id, int(erase)),
    )


def departures(cursor: Cursor) -> list[tuple[str, bool]]:
    """Closed accounts of which not everything is taken down, and whether it is to be erased."""
    rows = cursor.execute("SELECT user_id, erase FROM departures ORDER BY user_id").fetchall()
    return [(user_id, bool(erase)) for user_id, erase in rows]


def end_departure(cursor: Cursor, user_id: str) -> None:
    """All that went with a closed account is taken down."""
    cursor.later("DELETE FROM departures WHERE user_id = ?", (user_id,))


def count_accounts(cursor: Cursor) -> int:
    """How many people live here: guests and closed accounts do not count."""
    row = cursor.execute("SELECT COUNT(*) FROM users WHERE deactivated = 0 AND is_guest = 0").fetchone()
    return int(row[0]) if row is not None else 0


def _account(row: tuple[Any, ...]) -> Account:
    user_id, password_hash, created_ts, *flags = row
    return Account(user_id, password_hash, created_ts, *map(bool, flags))

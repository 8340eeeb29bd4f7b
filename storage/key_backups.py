"""Backups of room keys: for their owner only, who alone can read what is in them.

key_backups     user_id  version  algorithm  auth_data  etag  keys  deleted
                @a:x     2        m.megolm…  {…}        5     120   0
backed_up_keys  user_id  version  room_id    session_id  is_verified  first_index  forwarded  data

Versions count up and are never given twice, so that a deleted one is remembered.

Spec: https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from storage.ports import Cursor
from storage.sql import among, from_blob, to_blob


class Backup(msgspec.Struct, frozen=True, gc=False):
    """One version."""

    version: int
    algorithm: str
    auth_data: bytes
    """JSON."""
    etag: int
    """Counts the changes of what is in it."""
    keys: int
    """How many there are."""


class RoomKey(msgspec.Struct, frozen=True, gc=False):
    """One room key, as it was backed up."""

    room_id: str
    session_id: str
    is_verified: bool
    first_index: int
    """`first_message_index`"""
    forwarded: int
    """`forwarded_count`"""
    data: bytes
    """JSON."""

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The lower, the better is the key, says the specification."""
        return not self.is_verified, self.first_index, self.forwarded


def newest(cursor: Cursor, user_id: str) -> Backup | None:
    """The backup in use: the newest that is not deleted."""
    row = cursor.execute(
        f"{_SELECT_BACKUP} WHERE user_id = ? AND deleted = 0 ORDER BY version DESC LIMIT 1", (user_id,)
    ).fetchone()
    return _backup(row)


def get(cursor: Cursor, user_id: str, version: int) -> Backup | None:
    """One version, unless it is deleted."""
    row = cursor.execute(
        f"{_SELECT_BACKUP} WHERE user_id = ? AND version = ? AND deleted = 0", (user_id, version)
    ).fetchone()
    return _backup(row)


def create(cursor: Cursor, user_id: str, algorithm: str, auth_data: bytes) -> int:
    """Begin a new version; gives its number."""
    row = cursor.execute(
        "SELECT version FROM key_backups WHERE user_id = ? ORDER BY version DESC LIMIT 1", (user_id,)
    ).fetchone()
    version = 1 if row is None else int(row[0]) + 1
    cursor.later(
        "INSERT INTO key_backups (user_id, version, algorithm, auth_data, etag, keys, deleted)"
        " VALUES (?, ?, ?, ?, 0, 0, 0)",
        (user_id, version, to_blob(algorithm), auth_data),
    )
    return version


def set_auth_data(cursor: Cursor, user_id: str, version: int, auth_data: bytes) -> None:
    cursor.later(
        "UPDATE key_backups SET auth_data = ? WHERE user_id = ? AND version = ?", (auth_data, user_id, version)
    )


def delete(cursor: Cursor, user_id: str, version: int) -> bool:
    """Delete a version with its keys; that there was one is remembered. False where there never was."""
    cursor.execute(
        "UPDATE key_backups SET deleted = 1, auth_data = ?, keys = 0 WHERE user_id = ? AND version = ?",
        (b"{}", user_id, version),
    )
    found = cursor.rowcount == 1
    cursor.later("DELETE FROM backed_up_keys WHERE user_id = ? AND version = ?", (user_id, version))
    return found


def delete_all(cursor: Cursor, user_id: str) -> None:
    """The account is no more."""
    cursor.later("DELETE FROM backed_up_keys WHERE user_id = ?", (user_id,))
    cursor.later("DELETE FROM key_backups WHERE user_id = ?", (user_id,))


# -- keys ---------------------------------------------------------------------------------------------------------


def put_keys(cursor: Cursor, user_id: str, backup: Backup, keys: Sequence[RoomKey]) -> Backup:
    """Take in keys, each in place of the one that is there if it is better. Gives the backup as it is then."""
    ranks = _ranks(cursor, user_id, backup.version, keys)
    chosen: dict[tuple[str, str], RoomKey] = {}
    for key in keys:
        place = (key.room_id, key.session_id)
        before = chosen[place].rank if place in chosen else ranks.get(place)
        if before is None or key.rank < before:
            chosen[place] = key
    if not chosen:
        return backup
    cursor.insert_many(
        "backed_up_keys",
        ("user_id", "version", "room_id", "session_id", "is_verified", "first_index", "forwarded", "data"),
        [
            (
                user_id,
                backup.version,
                key.room_id,
                key.session_id,
                int(key.is_verified),
                key.first_index,
                key.forwarded,
                key.data,
            )
            for key in chosen.values()
        ],
        "ON CONFLICT (user_id, version, room_id, session_id) DO UPDATE SET is_verified = excluded.is_verified,"
        " first_index = excluded.first_index, forwarded = excluded.forwarded, data = excluded.data",
    )
    return _count(cursor, user_id, backup, sum(place not in ranks for place in chosen))


def get_keys(
    cursor: Cursor, user_id: str, version: int, room_id: str | None = None, session_id: str | None = None
) -> list[RoomKey]:
    """The keys of a version; of one room, or one session. By room and session."""
    condition, parameters = _narrow(room_id, session_id)
    rows = cursor.execute(
        "SELECT room_id, session_id, is_verified, first_index, forwarded, data FROM backed_up_keys"
        f" WHERE user_id = ? AND version = ?{condition} ORDER BY room_id, session_id",
        (user_id, version, *parameters),
    ).fetchall()
    return [
        RoomKey(room, session, bool(is_verified), first, forwarded, bytes(data))
        for room, session, is_verified, first, forwarded, data in rows
    ]


def delete_keys(
    cursor: Cursor, user_id: str, backup: Backup, room_id: str | None = None, session_id: str | None = None
) -> Backup:
    """Delete keys of a version; of one room, or one session. Gives the backup as it is then."""
    condition, parameters = _narrow(room_id, session_id)
    cursor.execute(
        f"DELETE FROM backed_up_keys WHERE user_id = ? AND version = ?{condition}",
        (user_id, backup.version, *parameters),
    )
    gone = cursor.rowcount
    return _count(cursor, user_id, backup, -gone) if gone else backup


def _count(cursor: Cursor, user_id: str, backup: Backup, more: int) -> Backup:
    counted = Backup(backup.version, backup.algorithm, backup.auth_data, backup.etag + 1, backup.keys + more)
    cursor.later(
        "UPDATE key_backups SET etag = ?, keys = ? WHERE user_id = ? AND version = ?",
        (counted.etag, counted.keys, user_id, backup.version),
    )
    return counted


def _ranks(cursor: Cursor, user_id: str, version: int, keys: Sequence[RoomKey]) -> dict[tuple[str, str], Any]:
    """How good the keys are that are there already, of the same sessions."""
    if not keys:
        return {}
    rooms, parameters = among(cursor, "room_id", sorted({key.room_id for key in keys}))
    sessions, more = among(cursor, "session_id", sorted({key.session_id for key in keys}))
    rows = cursor.execute(
        "SELECT room_id, session_id, is_verified, first_index, forwarded FROM backed_up_keys"
        f" WHERE user_id = ? AND version = ? AND {rooms} AND {sessions}",
        (user_id, version, *parameters, *more),
    ).fetchall()
    return {(room_id, session_id): (not verified, *rest) for room_id, session_id, verified, *rest in rows}


def _narrow(room_id: str | None, session_id: str | None) -> tuple[str, list[str]]:
    if room_id is None:
        return "", []
    if session_id is None:
        return " AND room_id = ?", [room_id]
    return " AND room_id = ? AND session_id = ?", [room_id, session_id]


_SELECT_BACKUP = "SELECT version, algorithm, auth_data, etag, keys FROM key_backups"


def _backup(row: tuple[Any, ...] | None) -> Backup | None:
    if row is None:
        return None
    version, algorithm, auth_data, etag, keys = row
    return Backup(version, from_blob(algorithm), bytes(auth_data), etag, keys)

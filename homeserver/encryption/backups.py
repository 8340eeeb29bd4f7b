"""Backups of room keys, encrypted by their owner's clients.

Spec: https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from federation.room.identifiers import InvalidIdentifier, parse_room_id
from federation.service import service
from homeserver.encryption.shapes import MAX_NAME_BYTES, is_name
from homeserver.errors import InvalidParam, MatrixError, NotFound
from storage import key_backups as rows
from storage.database import Database
from storage.key_backups import Backup, RoomKey
from storage.ports import Cursor

MAX_AUTH_DATA_BYTES = 32 * 1024
MAX_SESSION_DATA_BYTES = 32 * 1024
"""One room key takes under 2 KiB."""
MOST_KEYS = 1_000_000
"""Of one person, in one version."""
LARGEST_INTEGER = 2**53 - 1


class KeyData(msgspec.Struct, frozen=True):
    """One room key, as it is uploaded."""

    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: dict[str, Any]


Uploaded = Mapping[str, Mapping[str, KeyData]]
"""Room id → session id → key."""


class WrongVersion(MatrixError):
    def __init__(self, current: int) -> None:
        more = {"current_version": str(current)}
        super().__init__(403, "M_WRONG_ROOM_KEYS_VERSION", "This is not the backup in use", more)


@service
class KeyBackups:
    """Keeps everybody's."""

    _database: Database

    # -- versions ----------------------------------------------------------------------------------------------

    async def create(self, user_id: str, algorithm: str, auth_data: Mapping[str, Any]) -> str:
        """Begin a new backup, which is the one in use from now on. Raises InvalidParam or M_TOO_LARGE."""
        if not is_name(algorithm):
            raise InvalidParam(f"`algorithm` has 1 to {MAX_NAME_BYTES} bytes")
        return str(await self._database.write(rows.create, user_id, algorithm, _auth_data(auth_data)))

    async def get(self, user_id: str, version: str | None) -> dict[str, Any]:
        """One backup, or the one in use. Raises NotFound."""
        backup = await self._database.run(_require, user_id, version)
        return {
            "algorithm": backup.algorithm,
            "auth_data": orjson.Fragment(backup.auth_data),
            "version": str(backup.version),
            **_counts(backup),
        }

    async def update(
        self, user_id: str, version: str, named: str | None, algorithm: str, auth_data: Mapping[str, Any]
    ) -> None:
        """Set a backup's `auth_data`; all else must be as it is. Raises InvalidParam or NotFound."""
        if named is not None and named != version:
            raise InvalidParam("`version` is not the one in the path")
        await self._database.write(_update, user_id, version, algorithm, _auth_data(auth_data))

    async def delete(self, user_id: str, version: str) -> None:
        """Delete a backup with all that is in it; one that is deleted stays so. Raises NotFound."""
        number = _number(version)
        if number is None or not await self._database.write(rows.delete, user_id, number):
            raise _unknown()

    async def forget(self, user_id: str) -> None:
        """Delete all that somebody has."""
        await self._database.write(rows.delete_all, user_id)

    # -- keys --------------------------------------------------------------------------------------------------

    async def put_keys(self, user_id: str, version: str, uploaded: Uploaded) -> dict[str, Any]:
        """Add keys to the backup in use, where they are better than those that are there. Gives `etag` and `count`.

        Raises InvalidParam, M_TOO_LARGE, NotFound or `WrongVersion`.
        """
        keys = [
            _room_key(room_id, session_id, data)
            for room_id, sessions in uploaded.items()
            for session_id, data in sessions.items()
        ]
        return _counts(await self._database.write(_put_keys, user_id, version, keys))

    async def get_keys(self, user_id: str, version: str, room_id: str | None = None) -> dict[str, Any]:
        """The keys of a backup by room and session, or those of a room by session. Raises NotFound."""
        keys = await self._database.run(_get_keys, user_id, version, room_id, None)
        rooms: dict[str, dict[str, Any]] = {}
        for key in keys:
            rooms.setdefault(key.room_id, {})[key.session_id] = _key_json(key)
        if room_id is not None:
            return {"sessions": rooms.get(room_id, {})}
        return {"rooms": {room: {"sessions": sessions} for room, sessions in rooms.items()}}

    async def get_key(self, user_id: str, version: str, room_id: str, session_id: str) -> dict[str, Any]:
        """One key. Raises NotFound."""
        keys = await self._database.run(_get_keys, user_id, version, room_id, session_id)
        if not keys:
            raise NotFound("There is no such key")
        return _key_json(keys[0])

    async def delete_keys(
        self, user_id: str, version: str, room_id: str | None = None, session_id: str | None = None
    ) -> dict[str, Any]:
        """Delete all keys of a backup, those of a room, or one. Gives `etag` and `count`. Raises NotFound."""
        return _counts(await self._database.write(_delete_keys, user_id, version, room_id, session_id))


# -- in a database thread ------------------------------------------------------------------------------------------


def _require(cursor: Cursor, user_id: str, version: str | None) -> Backup:
    if version is None:
        backup = rows.newest(cursor, user_id)
    else:
        number = _number(version)
        backup = None if number is None else rows.get(cursor, user_id, number)
    if backup is None:
        raise _unknown()
    return backup


def _require_current(cursor: Cursor, user_id: str, version: str) -> Backup:
    newest = rows.newest(cursor, user_id)
    if newest is None:
        raise _unknown()
    if _number(version) != newest.version:
        raise WrongVersion(newest.version)
    return newest


def _update(cursor: Cursor, user_id: str, version: str, algorithm: str, auth_data: bytes) -> None:
    backup = _require(cursor, user_id, version)
    if algorithm != backup.algorithm:
        raise InvalidParam("`algorithm` is not that of the backup")
    rows.set_auth_data(cursor, user_id, backup.version, auth_data)


def _put_keys(cursor: Cursor, user_id: str, version: str, keys: Sequence[RoomKey]) -> Backup:
    backup = rows.put_keys(cursor, user_id, _require_current(cursor, user_id, version), keys)
    if backup.keys > MOST_KEYS:
        raise MatrixError(413, "M_TOO_LARGE", f"A backup holds at most {MOST_KEYS} keys")
    return backup


def _get_keys(cursor: Cursor, user_id: str, version: str, room_id: str | None, session_id: str | None) -> list[RoomKey]:
    backup = _require(cursor, user_id, version)
    if not all(name is None or is_name(name) for name in (room_id, session_id)):
        return []
    return rows.get_keys(cursor, user_id, backup.version, room_id, session_id)


def _delete_keys(cursor: Cursor, user_id: str, version: str, room_id: str | None, session_id: str | None) -> Backup:
    backup = _require(cursor, user_id, version)
    if not all(name is None or is_name(name) for name in (room_id, session_id)):
        return backup
    return rows.delete_keys(cursor, user_id, backup, room_id, session_id)


# ------------------------------------------------------------------------------------------------------------------


def _number(version: str) -> int | None:
    return int(version) if version.isascii() and version.isdigit() and len(version) < 16 else None


def _unknown() -> NotFound:
    return NotFound("There is no such backup")


def _counts(backup: Backup) -> dict[str, Any]:
    return {"count": backup.keys, "etag": str(backup.etag)}


def _auth_data(auth_data: Mapping[str, Any]) -> bytes:
    json = orjson.dumps(auth_data)
    if len(json) > MAX_AUTH_DATA_BYTES:
        raise MatrixError(413, "M_TOO_LARGE", f"`auth_data` is larger than {MAX_AUTH_DATA_BYTES} bytes")
    return json


def _room_key(room_id: str, session_id: str, data: KeyData) -> RoomKey:
    try:
        parse_room_id(room_id)
    except InvalidIdentifier as error:
        raise InvalidParam(f"`rooms`: {error}") from None
    if not is_name(session_id):
        raise InvalidParam(f"`sessions` of {room_id}: a session's id has 1 to {MAX_NAME_BYTES} bytes")
    for name, number in (("first_message_index", data.first_message_index), ("forwarded_count", data.forwarded_count)):
        if not 0 <= number <= LARGEST_INTEGER:
            raise InvalidParam(f"`{name}` of {session_id} is no count")
    json = orjson.dumps(data.session_data)
    if len(json) > MAX_SESSION_DATA_BYTES:
        raise MatrixError(413, "M_TOO_LARGE", f"`session_data` of {session_id} is too large")
    return RoomKey(room_id, session_id, data.is_verified, data.first_message_index, data.forwarded_count, json)


def _key_json(key: RoomKey) -> dict[str, Any]:
    return {
        "first_message_index": key.first_index,
        "forwarded_count": key.forwarded,
        "is_verified": key.is_verified,
        "session_data": orjson.Fragment(key.data),
    }

"""Backups of room keys on the server.

Spec: https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.encryption.backups import KeyBackups, KeyData
from homeserver.http.route import USER, Requester, route

VERSION = "/_matrix/client/v3/room_keys/version"
KEYS = "/_matrix/client/v3/room_keys/keys"
MAX_BODY = 1024 * 1024


class NewBackup(msgspec.Struct, frozen=True):
    algorithm: str
    auth_data: dict[str, Any]


class OneBackup(msgspec.Struct, frozen=True):
    version: str


class ChangedBackup(msgspec.Struct, frozen=True):
    path_version: str
    algorithm: str
    auth_data: dict[str, Any]
    version: str | None = None


class Sessions(msgspec.Struct, frozen=True):
    sessions: dict[str, KeyData]


class PutKeys(msgspec.Struct, frozen=True):
    version: str
    rooms: dict[str, Sessions]


class PutRoomKeys(msgspec.Struct, frozen=True):
    version: str
    room_id: str
    sessions: dict[str, KeyData]


class PutKey(msgspec.Struct, frozen=True):
    version: str
    room_id: str
    session_id: str
    data: KeyData


class AllKeys(msgspec.Struct, frozen=True):
    version: str


class RoomKeys(msgspec.Struct, frozen=True):
    version: str
    room_id: str


class OneKey(msgspec.Struct, frozen=True):
    version: str
    room_id: str
    session_id: str


@route("POST", VERSION, auth=USER, rate="write")
async def create_backup(backups: KeyBackups, who: Requester, ask: NewBackup) -> dict[str, str]:
    return {"version": await backups.create(who.user_id, ask.algorithm, ask.auth_data)}


@route("GET", VERSION, auth=USER, rate="read")
async def get_newest_backup(backups: KeyBackups, who: Requester) -> dict[str, Any]:
    return await backups.get(who.user_id, None)


@route("GET", VERSION + "/{version}", auth=USER, rate="read")
async def get_backup(backups: KeyBackups, who: Requester, ask: OneBackup) -> dict[str, Any]:
    return await backups.get(who.user_id, ask.version)


@route("PUT", VERSION + "/{path_version}", auth=USER, rate="write")
async def update_backup(backups: KeyBackups, who: Requester, ask: ChangedBackup) -> None:
    await backups.update(who.user_id, ask.path_version, ask.version, ask.algorithm, ask.auth_data)


@route("DELETE", VERSION + "/{version}", auth=USER, rate="write")
async def delete_backup(backups: KeyBackups, who: Requester, ask: OneBackup) -> None:
    await backups.delete(who.user_id, ask.version)


@route("PUT", KEYS, auth=USER, rate="write", max_body=MAX_BODY, query=("version",))
async def put_keys(backups: KeyBackups, who: Requester, ask: PutKeys) -> dict[str, Any]:
    uploaded = {room_id: room.sessions for room_id, room in ask.rooms.items()}
    return await backups.put_keys(who.user_id, ask.version, uploaded)


@route("PUT", KEYS + "/{room_id}", auth=USER, rate="write", max_body=MAX_BODY, query=("version",))
async def put_room_keys(backups: KeyBackups, who: Requester, ask: PutRoomKeys) -> dict[str, Any]:
    return await backups.put_keys(who.user_id, ask.version, {ask.room_id: ask.sessions})


@route(
    "PUT", KEYS + "/{room_id}/{session_id}", auth=USER, rate="write", max_body=MAX_BODY, query=("version",), body="data"
)
async def put_key(backups: KeyBackups, who: Requester, ask: PutKey) -> dict[str, Any]:
    return await backups.put_keys(who.user_id, ask.version, {ask.room_id: {ask.session_id: ask.data}})


@route("GET", KEYS, auth=USER, rate="read", query=("version",))
async def get_keys(backups: KeyBackups, who: Requester, ask: AllKeys) -> dict[str, Any]:
    return await backups.get_keys(who.user_id, ask.version)


@route("GET", KEYS + "/{room_id}", auth=USER, rate="read", query=("version",))
async def get_room_keys(backups: KeyBackups, who: Requester, ask: RoomKeys) -> dict[str, Any]:
    return await backups.get_keys(who.user_id, ask.version, ask.room_id)


@route("GET", KEYS + "/{room_id}/{session_id}", auth=USER, rate="read", query=("version",))
async def get_key(backups: KeyBackups, who: Requester, ask: OneKey) -> dict[str, Any]:
    return await backups.get_key(who.user_id, ask.version, ask.room_id, ask.session_id)


@route("DELETE", KEYS, auth=USER, rate="write", query=("version",))
async def delete_keys(backups: KeyBackups, who: Requester, ask: AllKeys) -> dict[str, Any]:
    return await backups.delete_keys(who.user_id, ask.version)


@route("DELETE", KEYS + "/{room_id}", auth=USER, rate="write", query=("version",))
async def delete_room_keys(backups: KeyBackups, who: Requester, ask: RoomKeys) -> dict[str, Any]:
    return await backups.delete_keys(who.user_id, ask.version, ask.room_id)


@route("DELETE", KEYS + "/{room_id}/{session_id}", auth=USER, rate="write", query=("version",))
async def delete_key(backups: KeyBackups, who: Requester, ask: OneKey) -> dict[str, Any]:
    return await backups.delete_keys(who.user_id, ask.version, ask.room_id, ask.session_id)

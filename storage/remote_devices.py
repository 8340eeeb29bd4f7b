"""The lists of devices of other servers' people, as far as they were read: kept in step by what those servers tell.

remote_device_lists  user_id  stream_id  position  missed
                     @b:peer  17         4711      0        nothing was missed since
remote_devices       user_id  device_id  json      display_name

Spec: https://spec.matrix.org/v1.19/server-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from storage import strings
from storage.memberships import NUMBERS
from storage.ports import Cursor
from storage.sql import among, from_blob_or_none, to_blob


class RemoteDevice(msgspec.Struct, frozen=True, gc=False):
    device_id: str
    json: bytes
    """Its keys, with all signatures."""
    display_name: str | None


class RemoteList(msgspec.Struct, frozen=True, gc=False):
    """How well somebody's list is known."""

    stream_id: int
    """Of the newest update that is in it."""
    position: int
    """When the whole of it was asked for."""
    missed: int
    """Counts the updates that were missed since: then it is to be read again."""


def lists_of(cursor: Cursor, user_ids: Collection[str]) -> dict[str, RemoteList]:
    """What is known of some people; nothing of whom there is no list."""
    if not user_ids:
        return {}
    condition, parameters = among(cursor, "user_id", sorted(user_ids))
    rows = cursor.execute(
        f"SELECT user_id, stream_id, position, missed FROM remote_device_lists WHERE {condition}", parameters
    ).fetchall()
    return {user_id: RemoteList(stream_id, position, missed) for user_id, stream_id, position, missed in rows}


def devices_of(cursor: Cursor, user_ids: Collection[str]) -> dict[str, list[RemoteDevice]]:
    """The devices in the lists of some people, by id."""
    if not user_ids:
        return {}
    condition, parameters = among(cursor, "user_id", sorted(user_ids))
    found: dict[str, list[RemoteDevice]] = {}
    for user_id, device_id, json, name in cursor.execute(
        f"SELECT user_id, device_id, json, display_name FROM remote_devices WHERE {condition}"
        " ORDER BY user_id, device_id",
        parameters,
    ).fetchall():
        found.setdefault(user_id, []).append(RemoteDevice(device_id, bytes(json), from_blob_or_none(name)))
    return found


def all_stale(cursor: Cursor) -> list[str]:
    """Everybody whose list is to be read again."""
    rows = cursor.execute("SELECT user_id FROM remote_device_lists WHERE missed <> 0 ORDER BY user_id").fetchall()
    return [user_id for (user_id,) in rows]


def put_list(cursor: Cursor, user_id: str, whole: RemoteList, devices: Sequence[RemoteDevice]) -> None:
    """A whole list was read: it is that from now on."""
    cursor.later("DELETE FROM remote_devices WHERE user_id = ?", (user_id,))
    cursor.insert_many(
        "remote_devices", ("user_id", "device_id", "json", "display_name"), [_row(user_id, one) for one in devices]
    )
    cursor.later(
        "INSERT INTO remote_device_lists (user_id, stream_id, position, missed) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (user_id) DO UPDATE SET stream_id = excluded.stream_id, position = excluded.position,"
        " missed = excluded.missed",
        (user_id, whole.stream_id, whole.position, whole.missed),
    )


def put_device(cursor: Cursor, user_id: str, device: RemoteDevice) -> None:
    """One device of a list is new, or another."""
    cursor.insert_many(
        "remote_devices",
        ("user_id", "device_id", "json", "display_name"),
        [_row(user_id, device)],
        "ON CONFLICT (user_id, device_id) DO UPDATE SET json = excluded.json, display_name = excluded.display_name",
    )


def delete_device(cursor: Cursor, user_id: str, device_id: str) -> None:
    cursor.later("DELETE FROM remote_devices WHERE user_id = ? AND device_id = ?", (user_id, device_id))


def advance(cursor: Cursor, user_id: str, stream_id: int) -> None:
    """An update was taken into a list."""
    cursor.later("UPDATE remote_device_lists SET stream_id = ? WHERE user_id = ?", (stream_id, user_id))


def miss(cursor: Cursor, user_id: str) -> None:
    """An update was missed. Who has no list stays without."""
    cursor.later("UPDATE remote_device_lists SET missed = missed + 1 WHERE user_id = ?", (user_id,))


def forget(cursor: Cursor, user_id: str) -> None:
    """Nothing is known of somebody any more."""
    cursor.later("DELETE FROM remote_devices WHERE user_id = ?", (user_id,))
    cursor.later("DELETE FROM remote_device_lists WHERE user_id = ?", (user_id,))


class Stay(msgspec.Struct, frozen=True, gc=False):
    """Somebody is in a room."""

    room_nid: int
    since: int


def stays_of(cursor: Cursor, user_ids: Collection[str]) -> dict[str, list[Stay]]:
    """The rooms that people are in, and from when on they have been without a break."""
    nids = strings.find_many(cursor, user_ids)
    if not nids:
        return {}
    names = {nid: user_id for user_id, nid in nids.items()}
    condition, parameters = among(cursor, "user_nid", sorted(names))
    found: dict[str, list[Stay]] = {}
    for user_nid, room_nid, since in cursor.execute(
        f"SELECT user_nid, room_nid, since FROM memberships WHERE {condition} AND membership = ?",
        (*parameters, NUMBERS["join"]),
    ).fetchall():
        found.setdefault(names[user_nid], []).append(Stay(room_nid, since))
    return found


def _row(user_id: str, device: RemoteDevice) -> tuple[str, str, bytes, bytes | None]:
    name = None if device.display_name is None else to_blob(device.display_name)
    return user_id, device.device_id, device.json, name

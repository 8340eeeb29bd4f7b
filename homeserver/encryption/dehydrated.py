"""Dehydrated devices: one that a person leaves on the server, to receive room keys while none of the others is there.

MSC3814
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from attrs import define

from homeserver.accounts.sessions import MAX_DEVICE_NAME, check_device_id
from homeserver.clock import Clock
from homeserver.encryption.letters import Letterbox
from homeserver.encryption.lists import DeviceChanges, DeviceLists
from homeserver.encryption.uploads import Upload, write_upload
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.streams.hub import Hub
from storage import dehydrated_devices as rows
from storage import device_keys as key_rows
from storage import sessions as session_rows
from storage.database import Database
from storage.dehydrated_devices import Dehydrated

MAX_DATA_BYTES = 128 * 1024


class NewDehydrated(msgspec.Struct, frozen=True):
    """A device to be left here."""

    device_id: str
    data: bytes
    display_name: str | None
    keys: Upload


def check_dehydrated(device_id: str, data: Mapping[str, Any], display_name: str | None, keys: Upload) -> NewDehydrated:
    """Raises MatrixError."""
    check_device_id(device_id)
    if not isinstance(data.get("algorithm"), str):
        raise InvalidParam("`device_data.algorithm` is missing")
    json = orjson.dumps(data)
    if len(json) > MAX_DATA_BYTES:
        raise MatrixError(413, "M_TOO_LARGE", f"`device_data` is larger than {MAX_DATA_BYTES} bytes")
    if display_name is not None:
        display_name = display_name.replace("\0", "")[:MAX_DEVICE_NAME]
    return NewDehydrated(device_id, json, display_name, keys)


@define(eq=False)
class DehydratedDevices:
    """Everybody's."""

    _database: Database
    _lists: DeviceLists
    _letterbox: Letterbox
    _hub: Hub
    _clock: Clock

    async def put(self, user_id: str, new: NewDehydrated) -> None:
        """Leave a device in the place of the one before. Raises InvalidParam for an id that a device has."""
        now_ms = self._clock.now_ms()
        await self._lists.write(user_id, lambda changes: _put(changes, new, now_ms))

    async def get(self, user_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        device = await self._require(user_id)
        return {"device_id": device.device_id, "device_data": orjson.Fragment(device.data)}

    async def delete(self, user_id: str) -> str:
        """Gives the id of what was deleted. Raises NotFound."""
        device_id = await self._lists.write(user_id, _remove)
        if device_id is None:
            raise NotFound("There is no dehydrated device")
        return device_id

    async def forget(self, user_id: str) -> None:
        """Delete the device that somebody may have left."""
        await self._lists.write(user_id, _remove)

    async def events(self, user_id: str, device_id: str, next_batch: str | None) -> dict[str, Any]:
        """The messages for the device, from the beginning or from a token on. None is deleted: whoever wakes the
        device up may not come to the end.

        Raises Forbidden where the device is none of that kind, and InvalidParam for a token that is none.
        """
        device = await self._database.run(rows.get, user_id)
        if device is None or device.device_id != device_id:
            raise Forbidden("That is not your dehydrated device")
        after = _parse_batch(next_batch)
        upto = self._hub.position
        letters = await self._letterbox.read(user_id, device_id, after, upto)
        return {
            "events": [orjson.Fragment(event) for event in letters.events],
            "next_batch": f"d1_{letters.upto or upto}",
        }

    async def _require(self, user_id: str) -> Dehydrated:
        device = await self._database.run(rows.get, user_id)
        if device is None:
            raise NotFound("There is no dehydrated device")
        return device


def _parse_batch(token: str | None) -> int:
    if token is None:
        return 0
    version, _, position = token.partition("_")
    if version != "d1" or not (position.isascii() and position.isdigit() and len(position) <= 18):
        raise InvalidParam("`next_batch` is not a token of this server")
    return int(position)


# -- in the writer's thread ----------------------------------------------------------------------------------------


def _put(changes: DeviceChanges, new: NewDehydrated, now_ms: int) -> None:
    cursor, user_id = changes.cursor, changes.user_id
    _remove(changes)
    if session_rows.get_device(cursor, user_id, new.device_id) is not None:
        raise InvalidParam("`device_id` is that of another device")
    if any(
        key.public_key == new.device_id
        for key in key_rows.cross_signing_of(cursor, [user_id]).get(user_id, {}).values()
    ):
        raise InvalidParam("`device_id` is that of a cross-signing key")
    rows.put(cursor, user_id, Dehydrated(new.device_id, new.data), new.display_name)
    changes.added(new.device_id)
    write_upload(changes, new.device_id, new.keys, now_ms)


def _remove(changes: DeviceChanges) -> str | None:
    device = rows.get(changes.cursor, changes.user_id)
    if device is None:
        return None
    changes.removed(session_rows.delete_devices(changes.cursor, changes.user_id, [device.device_id]))
    return device.device_id

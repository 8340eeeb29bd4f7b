"""Writing down what other servers say of their people's devices, in the shape that it must have.

Spec: https://spec.matrix.org/v1.19/server-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.wire.keys import DeviceListUpdate, SigningKeyUpdate, UserDevices
from homeserver.encryption.shapes import check_cross_signing_key, check_device_keys, is_name
from homeserver.errors import MatrixError
from storage import device_keys as key_rows
from storage import remote_devices as rows
from storage.device_keys import MASTER, SELF_SIGNING
from storage.ports import Cursor
from storage.remote_devices import RemoteDevice, RemoteList

MAX_NAME = 100
"""Characters of a device's name that are kept."""


def device_of(user_id: str, device_id: str, keys: Mapping[str, Any], name: str | None) -> RemoteDevice | None:
    """A device as it is kept; None where its keys are not what they should be."""
    if not is_name(device_id):
        return None
    try:
        json = check_device_keys(keys, user_id, device_id)
    except MatrixError:
        return None
    return RemoteDevice(device_id, json, None if name is None else name[:MAX_NAME])


def put_signing_keys(
    cursor: Cursor, user_id: str, master: Mapping[str, Any] | None, self_signing: Mapping[str, Any] | None
) -> bool:
    """Set the cross-signing keys that there are, and that are well formed. Says whether that changed anything."""
    known = key_rows.cross_signing_of(cursor, [user_id]).get(user_id, {})
    changed = False
    for name, usage, value in (
        ("master_key", MASTER, master),
        ("self_signing_key", SELF_SIGNING, self_signing),
    ):
        if value is None:
            continue
        try:
            key = check_cross_signing_key(name, value, user_id, usage)
        except MatrixError:
            continue
        if known.get(usage) != key:
            key_rows.put_cross_signing(cursor, key)
            changed = True
    return changed


# -- in the writer's thread ----------------------------------------------------------------------------------------


def put_whole(cursor: Cursor, answer: UserDevices, asked_at: int, missed: int) -> tuple[bool, bool]:
    """A whole list was read. Says whether those who knew the one before have to ask again, and whether it is to be read
    once more: because something was missed beside the `missed` updates before it was asked for.
    """
    user_id = answer.user_id
    before = rows.lists_of(cursor, [user_id]).get(user_id)
    still_missed = 0 if before is None or before.missed <= missed else before.missed - missed
    old = {device.device_id: device for device in rows.devices_of(cursor, [user_id]).get(user_id, ())}
    new: dict[str, RemoteDevice] = {}
    for one in answer.each():
        device = device_of(user_id, one.device_id, one.keys, one.device_display_name)
        if device is not None:
            new[device.device_id] = device
    rows.put_list(cursor, user_id, RemoteList(answer.stream_id, asked_at, still_missed), list(new.values()))
    signing_changed = put_signing_keys(cursor, user_id, answer.master_key, answer.self_signing_key)
    for usage in _gone(cursor, user_id, answer):
        key_rows.delete_key(cursor, user_id, usage)
        signing_changed = True
    return before is not None and (signing_changed or old != new), still_missed > 0


def _gone(cursor: Cursor, user_id: str, answer: UserDevices) -> list[str]:
    """Uses for which somebody had a cross-signing key, and has none any more."""
    known = key_rows.cross_signing_of(cursor, [user_id]).get(user_id, {})
    told = {MASTER: answer.master_key, SELF_SIGNING: answer.self_signing_key}
    return [usage for usage, key in told.items() if key is None and usage in known]


def apply_update(cursor: Cursor, update: DeviceListUpdate) -> tuple[bool, bool]:
    """Take an update into the list that is here. Says whether clients have to ask again, and whether it is to be read.

    Of whom there is no list, clients may still know something from elsewhere; but a device without keys adds nothing to
    that.
    """
    user_id = update.user_id
    known = rows.lists_of(cursor, [user_id]).get(user_id)
    if known is None:
        return update.deleted or update.keys is not None, False
    if update.stream_id == known.stream_id and not known.missed:
        return False, False
    if known.missed or set(update.prev_id) != {known.stream_id}:
        rows.miss(cursor, user_id)
        return False, True
    old = {device.device_id: device for device in rows.devices_of(cursor, [user_id]).get(user_id, ())}
    device = None
    if not update.deleted and update.keys is not None:
        device = device_of(user_id, update.device_id, update.keys, update.device_display_name)
    if device is not None:
        rows.put_device(cursor, user_id, device)
    elif is_name(update.device_id):
        rows.delete_device(cursor, user_id, update.device_id)
    rows.advance(cursor, user_id, update.stream_id)
    return old.get(update.device_id) != device, False


def apply_signing_update(cursor: Cursor, update: SigningKeyUpdate) -> bool:
    """Take new cross-signing keys. Says whether clients have to ask again."""
    if not rows.lists_of(cursor, [update.user_id]):
        return True  # what clients know is from elsewhere
    return put_signing_keys(cursor, update.user_id, update.master_key, update.self_signing_key)

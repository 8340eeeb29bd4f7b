"""One's own devices: which there are, what they are called, and ending them.

Spec: https://spec.matrix.org/v1.19/client-server-api/#device-management
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.accounts.changes import AccountChanges
from homeserver.accounts.devices import Devices
from homeserver.http.route import GUEST, USER, Requester, RequestInfo, route
from storage.sessions import Device


class OneDevice(msgspec.Struct, frozen=True):
    device_id: str


class RenameDevice(msgspec.Struct, frozen=True):
    device_id: str
    display_name: str | None = None


class DeleteDevice(msgspec.Struct, frozen=True):
    device_id: str
    auth: dict[str, Any] | None = None


class DeleteDevices(msgspec.Struct, frozen=True):
    devices: list[str]
    auth: dict[str, Any] | None = None


@route("GET", "/_matrix/client/v3/devices", auth=GUEST, rate="read")
async def list_devices(devices: Devices, who: Requester) -> dict[str, Any]:
    return {"devices": [_to_json(device) for device in await devices.all_of(who.user_id)]}


@route("GET", "/_matrix/client/v3/devices/{device_id}", auth=GUEST, rate="read")
async def get_device(devices: Devices, who: Requester, ask: OneDevice) -> dict[str, Any]:
    return _to_json(await devices.require(who.user_id, ask.device_id))


@route("PUT", "/_matrix/client/v3/devices/{device_id}", auth=GUEST, rate="write")
async def rename_device(devices: Devices, who: Requester, ask: RenameDevice) -> None:
    await devices.rename(who.user_id, ask.device_id, ask.display_name)


@route("DELETE", "/_matrix/client/v3/devices/{device_id}", auth=USER, rate="write")
async def delete_device(changes: AccountChanges, who: Requester, ask: DeleteDevice, info: RequestInfo) -> None:
    await changes.require_owner(f"delete devices {ask.device_id!r}", who, ask.auth, info.address)
    await changes.delete_devices(who, [ask.device_id])


@route("POST", "/_matrix/client/v3/delete_devices", auth=USER, rate="write")
async def delete_devices(changes: AccountChanges, who: Requester, ask: DeleteDevices, info: RequestInfo) -> None:
    named = ", ".join(repr(device_id) for device_id in sorted(set(ask.devices)))
    await changes.require_owner(f"delete devices {named}", who, ask.auth, info.address)
    await changes.delete_devices(who, ask.devices)


def _to_json(device: Device) -> dict[str, Any]:
    found = {
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen_ts,
    }
    return {name: value for name, value in found.items() if value is not None}

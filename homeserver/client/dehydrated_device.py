"""A device that waits on the server for a client to wake it up.

MSC3814, by its unstable paths.
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.client.keys import LARGE_BODY
from homeserver.encryption.dehydrated import DehydratedDevices, check_dehydrated
from homeserver.encryption.uploads import check_upload
from homeserver.http.route import USER, Requester, route

PATH = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"


class PutDevice(msgspec.Struct, frozen=True):
    device_id: str
    device_data: dict[str, Any]
    device_keys: dict[str, Any]
    initial_device_display_name: str | None = None
    one_time_keys: dict[str, Any] | None = None
    fallback_keys: dict[str, Any] | None = None


class GetEvents(msgspec.Struct, frozen=True):
    device_id: str
    next_batch: str | None = None


@route("PUT", PATH, auth=USER, rate="upload", max_body=LARGE_BODY)
async def put_dehydrated(devices: DehydratedDevices, who: Requester, ask: PutDevice) -> dict[str, str]:
    keys = check_upload(who.user_id, ask.device_id, ask.device_keys, ask.one_time_keys or {}, ask.fallback_keys or {})
    new = check_dehydrated(ask.device_id, ask.device_data, ask.initial_device_display_name, keys)
    await devices.put(who.user_id, new)
    return {"device_id": new.device_id}


@route("GET", PATH, auth=USER, rate="read")
async def get_dehydrated(devices: DehydratedDevices, who: Requester) -> dict[str, Any]:
    return await devices.get(who.user_id)


@route("DELETE", PATH, auth=USER, rate="write")
async def delete_dehydrated(devices: DehydratedDevices, who: Requester) -> dict[str, str]:
    return {"device_id": await devices.delete(who.user_id)}


@route("POST", PATH + "/{device_id}/events", auth=USER, rate="read", interruptible=True)
async def get_dehydrated_events(devices: DehydratedDevices, who: Requester, ask: GetEvents) -> dict[str, Any]:
    return await devices.events(who.user_id, ask.device_id, ask.next_batch)

"""Devices and keys of people here, for other servers.

Spec: https://spec.matrix.org/v1.19/server-server-api/#device-management
Spec: https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.inbound.x_matrix import Origin
from homeserver.encryption.remote.served import ServedKeys
from homeserver.http.route import FEDERATION, route

MAX_BODY = 1024 * 1024


class GetDevices(msgspec.Struct, frozen=True):
    user_id: str


class QueryUserKeys(msgspec.Struct, frozen=True):
    device_keys: dict[str, list[str]]


class ClaimUserKeys(msgspec.Struct, frozen=True):
    one_time_keys: dict[str, dict[str, str]]


@route("GET", "/_matrix/federation/v1/user/devices/{user_id}", auth=FEDERATION, rate="federation")
async def get_user_devices(keys: ServedKeys, who: Origin, ask: GetDevices) -> dict[str, Any]:
    return await keys.devices(ask.user_id)


@route("POST", "/_matrix/federation/v1/user/keys/query", auth=FEDERATION, rate="federation", max_body=MAX_BODY)
async def query_user_keys(keys: ServedKeys, who: Origin, ask: QueryUserKeys) -> dict[str, Any]:
    found = await keys.query(ask.device_keys)
    return {
        "device_keys": found.device_keys,
        "master_keys": found.master_keys,
        "self_signing_keys": found.self_signing_keys,
    }


@route("POST", "/_matrix/federation/v1/user/keys/claim", auth=FEDERATION, rate="federation", max_body=MAX_BODY)
async def claim_user_keys(keys: ServedKeys, who: Origin, ask: ClaimUserKeys) -> dict[str, Any]:
    return {"one_time_keys": await keys.claim(ask.one_time_keys)}

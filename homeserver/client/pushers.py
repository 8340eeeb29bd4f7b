"""`/_matrix/client/v3/pushers`: where somebody wants notifications sent.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushers
MSC3881 (https://github.com/matrix-org/matrix-spec-proposals/pull/3881): switched off, and of which device.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from homeserver.http.route import USER, Requester, route
from homeserver.push.pushers import Pushers

ENABLED = "org.matrix.msc3881.enabled"
DEVICE_ID = "org.matrix.msc3881.device_id"


class SetPusher(msgspec.Struct, frozen=True):
    kind: str | None
    app_id: str
    pushkey: str
    app_display_name: str | None = None
    device_display_name: str | None = None
    profile_tag: str | None = None
    lang: str | None = None
    data: dict[str, Any] | None = None
    append: bool = False
    enabled: bool = msgspec.field(name=ENABLED, default=True)


@route("GET", "/_matrix/client/v3/pushers", auth=USER, rate="read")
async def get_pushers(pushers: Pushers, who: Requester) -> dict[str, Any]:
    return {
        "pushers": [
            {**orjson.loads(one.told), ENABLED: one.enabled, DEVICE_ID: one.device_id}
            for one in pushers.of(who.user_id)
        ]
    }


@route("POST", "/_matrix/client/v3/pushers/set", auth=USER, rate="write")
async def set_pusher(pushers: Pushers, who: Requester, ask: SetPusher) -> None:
    if ask.kind is None:
        await pushers.remove((who.user_id, ask.app_id, ask.pushkey))
        return
    told = {
        "kind": ask.kind,
        "app_id": ask.app_id,
        "pushkey": ask.pushkey,
        "app_display_name": ask.app_display_name,
        "device_display_name": ask.device_display_name,
        "profile_tag": ask.profile_tag,
        "lang": ask.lang,
        "data": ask.data,
    }
    await pushers.set(who, told, ask.append, ask.enabled)

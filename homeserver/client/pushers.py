"""`/_matrix/client/v3/pushers`: where somebody wants notifications sent.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushers
MSC4174 (https://github.com/matrix-org/matrix-spec-proposals/pull/4174): straight to browsers.
MSC3881 (https://github.com/matrix-org/matrix-spec-proposals/pull/3881): switched off, and of which device.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from homeserver.http.route import USER, Reply, Requester, route
from homeserver.push.activation import Activation
from homeserver.push.consent import Consent
from homeserver.push.kinds import EMAIL, check_pusher, needs_consent
from homeserver.push.pushers import Pushers
from storage.pushers import Pusher

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
    return {"pushers": [_show(one) for one in pushers.of(who.user_id)]}


@route("POST", "/_matrix/client/v3/pushers/set", auth=USER, rate="write")
async def set_pusher(
    pushers: Pushers, activation: Activation, consent: Consent, who: Requester, ask: SetPusher
) -> Reply | None:
    if ask.kind is None:
        await pushers.remove((who.user_id, ask.app_id, ask.pushkey))
        return None
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
    if ask.kind == EMAIL:
        check_pusher(told, allows_plain=pushers.allows_plain)
        if not pushers.is_wanted(who.user_id, told):
            await consent.claim(ask.pushkey)
    pusher = await pushers.set(who, told, ask.append, ask.enabled)
    if pusher.activated:
        return None
    if ask.kind == EMAIL:
        consent.ask(pusher)
        return None
    activation.begin(pusher)
    return Reply(201, {})


class Acknowledge(msgspec.Struct, frozen=True):
    app_id: str
    ack_token: str


@route("POST", "/_matrix/client/unstable/org.matrix.msc4174/pushers/ack", auth=USER, rate="write")
async def acknowledge(activation: Activation, who: Requester, ask: Acknowledge) -> None:
    await activation.acknowledge(who.user_id, ask.app_id, ask.ack_token)


def _show(pusher: Pusher) -> dict[str, Any]:
    told = orjson.loads(pusher.told)
    if needs_consent(told):
        told["data"]["activated"] = pusher.activated
    return {**told, ENABLED: pusher.enabled, DEVICE_ID: pusher.device_id}

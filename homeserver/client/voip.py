"""`GET /_matrix/client/v3/voip/turnServer`, `GET /_matrix/client/v1/rtc/transports`: how calls find their way.

Spec: https://spec.matrix.org/v1.19/client-server-api/#voice-over-ip
MSC4143: https://github.com/matrix-org/matrix-spec-proposals/pull/4143
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.http.route import GUEST, Requester, route
from homeserver.voip import Relays, transports


@route("GET", "/_matrix/client/v3/voip/turnServer", auth=GUEST, rate="read")
async def get_turn_server(relays: Relays, who: Requester) -> Mapping[str, Any]:
    return relays.credentials(who.user_id, is_guest=who.is_guest)


@route(
    "GET",
    "/_matrix/client/v1/rtc/transports",
    "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports",
    auth=GUEST,
    rate="read",
)
async def get_transports(relays: Relays) -> Mapping[str, Any]:
    return {"rtc_transports": transports(relays.settings)}

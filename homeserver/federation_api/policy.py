"""`POST /_matrix/policy/v1/sign`: a server asks this one, as a room's policy server, for its signature on an event.

Spec: https://spec.matrix.org/v1.19/server-server-api/#post_matrixpolicyv1sign
"""

from __future__ import annotations

import msgspec

from federation.inbound.x_matrix import Origin
from homeserver.http.route import FEDERATION, route
from homeserver.rooms.policy.desk import Desk


class ToSign(msgspec.Struct, frozen=True):
    event: bytes


@route("POST", "/_matrix/policy/v1/sign", auth=FEDERATION, rate="federation", body="event", interruptible=True)
async def sign(desk: Desk, who: Origin, ask: ToSign) -> dict[str, dict[str, str]]:
    return await desk.sign(who.server_name, ask.event)

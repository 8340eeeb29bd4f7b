"""`PUT /_matrix/federation/v1/send/{txnId}`: new events, and what passes, from another server.

Spec: https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.inbound.x_matrix import Origin
from homeserver.http.route import FEDERATION, route
from homeserver.rooms.serve.inbox import Inbox

MAX_BODY = 10 * 1024 * 1024
"""50 events of 64 KiB, and 100 of what passes of the same size."""


class Send(msgspec.Struct, frozen=True):
    txn_id: str
    body: bytes


@route(
    "PUT", "/_matrix/federation/v1/send/{txn_id}", auth=FEDERATION, rate="federation", max_body=MAX_BODY, body="body"
)
async def send_transaction(inbox: Inbox, who: Origin, ask: Send) -> dict[str, Any]:
    return await inbox.take(who.server_name, ask.txn_id, ask.body)

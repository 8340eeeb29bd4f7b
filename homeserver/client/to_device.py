"""`PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`: messages from device to device.

Spec: https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.encryption.letters import Letterbox
from homeserver.http.route import GUEST, Requester, route

MAX_BODY = 1024 * 1024
"""COMPAT matrix-rust-sdk: it sends a room's key to 250 devices at a time."""


class SendToDevice(msgspec.Struct, frozen=True):
    event_type: str
    txn_id: str
    messages: dict[str, dict[str, dict[str, Any]]]


@route(
    "PUT",
    "/_matrix/client/v3/sendToDevice/{event_type}/{txn_id}",
    auth=GUEST,
    rate="to_device",
    max_body=MAX_BODY,
)
async def send_to_device(letterbox: Letterbox, who: Requester, ask: SendToDevice) -> None:
    await letterbox.send(who, ask.event_type, ask.txn_id, ask.messages)

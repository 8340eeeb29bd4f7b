"""Sending events: messages, state, redactions.

Spec: https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.route import GUEST, USER, Requester, route
from homeserver.rooms.send import Sender


class SendMessage(msgspec.Struct, frozen=True):
    room_id: str
    event_type: str
    txn_id: str
    content: dict[str, Any]


class SetState(msgspec.Struct, frozen=True):
    room_id: str
    event_type: str
    content: dict[str, Any]
    state_key: str = ""


class Redact(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    txn_id: str
    content: dict[str, Any]


@route(
    "PUT",
    "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{txn_id}",
    auth=GUEST,
    rate="message",
    body="content",
)
async def send_message(sender: Sender, who: Requester, ask: SendMessage) -> dict[str, str]:
    return {"event_id": await sender.message(who, ask.room_id, ask.event_type, ask.content, ask.txn_id)}


@route(
    "PUT",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    auth=GUEST,
    rate="message",
    body="content",
)
async def set_state(sender: Sender, who: Requester, ask: SetState) -> dict[str, str]:
    event_id = await sender.state(
        who.user_id, ask.room_id, ask.event_type, ask.state_key, ask.content, is_guest=who.is_guest
    )
    return {"event_id": event_id}


@route(
    "PUT",
    "/_matrix/client/v3/rooms/{room_id}/redact/{event_id}/{txn_id}",
    auth=USER,
    rate="message",
    body="content",
)
async def redact(sender: Sender, who: Requester, ask: Redact) -> dict[str, str]:
    return {"event_id": await sender.redact(who, ask.room_id, ask.event_id, ask.content, ask.txn_id)}

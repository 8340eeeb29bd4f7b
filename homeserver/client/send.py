"""Sending events: messages, state, redactions.

Spec: https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from federation.room.sticky import LONGEST_MS
from homeserver.delayed.clockwork import Clockwork
from homeserver.errors import BadJson, InvalidParam
from homeserver.http.route import GUEST, USER, Requester, route
from homeserver.rooms.send import Sender

DELAY = "org.matrix.msc4140.delay"
STICKY_MS = "org.matrix.msc4354.sticky_duration_ms"

WITH_RELATIONS = ("org.matrix.msc3912.with_relations", "with_rel_types")
"""What names the kinds of events to redact with the one they hang on: today, and as it will be called."""
MOST_RELATIONS = 20
"""Kinds that a request may name."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0)]


class SendMessage(msgspec.Struct, frozen=True, rename={"delay_ms": DELAY, "sticky_ms": STICKY_MS}):
    room_id: str
    event_type: str
    txn_id: str
    content: dict[str, Any]
    delay_ms: int | None = None
    sticky_ms: Milliseconds | None = None


class PostMessage(msgspec.Struct, frozen=True):
    room_id: str
    event_type: str
    content: dict[str, Any]


class SetState(msgspec.Struct, frozen=True, rename={"delay_ms": DELAY, "sticky_ms": STICKY_MS}):
    room_id: str
    event_type: str
    content: dict[str, Any]
    state_key: str = ""
    delay_ms: int | None = None
    sticky_ms: Milliseconds | None = None


class PostRedaction(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    content: dict[str, Any]


class Redact(PostRedaction, frozen=True):
    txn_id: str


@route(
    "PUT",
    "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{txn_id}",
    auth=GUEST,
    rate="message",
    query=(DELAY, STICKY_MS),
    body="content",
)
async def send_message(sender: Sender, clockwork: Clockwork, who: Requester, ask: SendMessage) -> dict[str, str]:
    sticky_ms = _bounded(ask.sticky_ms)
    if ask.delay_ms is not None:
        delay_id = await clockwork.add(
            who, ask.room_id, ask.event_type, ask.content, ask.txn_id, delay_ms=ask.delay_ms, sticky_ms=sticky_ms
        )
        return {"delay_id": delay_id}
    event_id = await sender.message(who, ask.room_id, ask.event_type, ask.content, ask.txn_id, sticky_ms=sticky_ms)
    return {"event_id": event_id}


# COMPAT: gone from the specification, and scripts of long ago still do it: without a transaction id, for once.
@route("POST", "/_matrix/client/v3/rooms/{room_id}/send/{event_type}", auth=GUEST, rate="message", body="content")
async def post_message(sender: Sender, who: Requester, ask: PostMessage) -> dict[str, str]:
    return {"event_id": await sender.message(who, ask.room_id, ask.event_type, ask.content, _made_up_txn_id())}


@route(
    "PUT",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    auth=GUEST,
    rate="message",
    query=(DELAY, STICKY_MS),
    body="content",
)
async def set_state(sender: Sender, clockwork: Clockwork, who: Requester, ask: SetState) -> dict[str, str]:
    sticky_ms = _bounded(ask.sticky_ms)
    if ask.delay_ms is not None:
        delay_id = await clockwork.add(
            who,
            ask.room_id,
            ask.event_type,
            ask.content,
            _made_up_txn_id(),  # setting state has none
            delay_ms=ask.delay_ms,
            state_key=ask.state_key,
            sticky_ms=sticky_ms,
        )
        return {"delay_id": delay_id}
    event_id = await sender.state(
        who.user_id,
        ask.room_id,
        ask.event_type,
        ask.state_key,
        ask.content,
        is_guest=who.is_guest,
        sticky_ms=sticky_ms,
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
    return await _redact(sender, who, ask, ask.txn_id)


@route("POST", "/_matrix/client/v3/rooms/{room_id}/redact/{event_id}", auth=USER, rate="message", body="content")
async def post_redaction(sender: Sender, who: Requester, ask: PostRedaction) -> dict[str, str]:
    return await _redact(sender, who, ask, _made_up_txn_id())


async def _redact(sender: Sender, who: Requester, ask: PostRedaction, txn_id: str) -> dict[str, str]:
    rel_types = _rel_types(ask.content)
    content = {key: value for key, value in ask.content.items() if key not in WITH_RELATIONS}
    event_id = await sender.redact(who, ask.room_id, ask.event_id, content, txn_id)
    await sender.redact_related(who.user_id, ask.room_id, ask.event_id, content, rel_types)
    return {"event_id": event_id}


def _made_up_txn_id() -> str:
    return f"none-{secrets.token_urlsafe(12)}"


def _rel_types(content: Mapping[str, Any]) -> list[str]:
    """MSC3912: https://github.com/matrix-org/matrix-spec-proposals/pull/3912"""
    for name in WITH_RELATIONS:
        given = content.get(name)
        if given is not None:
            if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
                raise BadJson(f"`{name}` must be a list of strings")
            if len(given) > MOST_RELATIONS:
                raise InvalidParam(f"`{name}` has more than {MOST_RELATIONS} entries")
            return given
    return []


def _bounded(sticky_ms: int | None) -> int | None:
    """An event sticks for an hour at most, whatever is asked for."""
    return None if sticky_ms is None else min(sticky_ms, LONGEST_MS)

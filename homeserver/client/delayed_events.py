"""Events to be sent later: asking for them, looking them up, and saying what becomes of them.

MSC4140: https://github.com/matrix-org/matrix-spec-proposals/pull/4140

COMPAT: the proposal's newest text and what clients send today differ; both are served. Its older way of asking is a
parameter of `/send` and `/state` (`homeserver.client.send`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import orjson

from homeserver.delayed.clockwork import Clockwork
from homeserver.http.route import GUEST, OPTIONAL, Requester, route
from storage.delayed import CANCELLED, FAILED, SENT, WAITS, Delayed

UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"

Action = Literal["send", "cancel", "restart"]

OUTCOMES = {SENT: "sent", CANCELLED: "cancelled", FAILED: "failed"}


class Schedule(msgspec.Struct, frozen=True):
    room_id: str
    event_type: str
    txn_id: str
    delay_ms: int
    content: dict[str, Any]
    state_key: str | None = None


class One(msgspec.Struct, frozen=True):
    delay_id: str


class Act(msgspec.Struct, frozen=True):
    delay_id: str
    action: Action


@route(
    "PUT",
    "/_matrix/client/v1/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    UNSTABLE + "/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    auth=GUEST,
    rate="message",
)
async def schedule(clockwork: Clockwork, who: Requester, ask: Schedule) -> dict[str, str]:
    delay_id = await clockwork.add(
        who, ask.room_id, ask.event_type, ask.content, ask.txn_id, delay_ms=ask.delay_ms, state_key=ask.state_key
    )
    return {"delay_id": delay_id}


@route(
    "POST",
    "/_matrix/client/v1/delayed_events/{delay_id}/{action}",
    UNSTABLE + "/delayed_events/{delay_id}/{action}",
    # COMPAT matrix-js-sdk: where it finds no such path, it sends the action in the body.
    UNSTABLE + "/delayed_events/{delay_id}",
    # COMPAT lk-jwt-service: it acts for people without their tokens; whoever knows the id may.
    auth=OPTIONAL,
    rate="delayed_event",
)
async def act(clockwork: Clockwork, who: Requester | None, ask: Act) -> None:
    user_id = None if who is None else who.user_id
    match ask.action:
        case "send":
            await clockwork.send(ask.delay_id, user_id)
        case "cancel":
            await clockwork.cancel(ask.delay_id, user_id)
        case "restart":
            await clockwork.restart(ask.delay_id, user_id)


@route(
    "GET",
    "/_matrix/client/v1/delayed_events",
    UNSTABLE + "/delayed_events",
    auth=GUEST,
    rate="read",
)
async def list_all(clockwork: Clockwork, who: Requester) -> dict[str, Any]:
    every = await clockwork.of(who.user_id)
    scheduled = [_told(one) for one in every if one.outcome == WAITS]
    finalised = [_told(one) for one in every if one.outcome in OUTCOMES]
    # COMPAT: `delayed_events` is today's name, the other two are of a version before that.
    return {"delayed_events": scheduled, "scheduled": scheduled, "finalised": finalised}


@route(
    "GET",
    "/_matrix/client/v1/delayed_events/{delay_id}",
    UNSTABLE + "/delayed_events/{delay_id}",
    auth=GUEST,
    rate="read",
)
async def get_one(clockwork: Clockwork, who: Requester, ask: One) -> dict[str, Any]:
    return _told(await clockwork.get(ask.delay_id, who.user_id))


def _told(delayed: Delayed) -> dict[str, Any]:
    told: dict[str, Any] = {
        "delay_id": delayed.delay_id,
        "room_id": delayed.room_id,
        "type": delayed.type,
        "delay_ms": delayed.delay_ms,
        "delayed_since_ts": delayed.since_ts,
        # COMPAT: older names of the same.
        "delay": delayed.delay_ms,
        "running_since": delayed.since_ts,
        "content": orjson.Fragment(delayed.content),
    }
    if delayed.state_key is not None:
        told["state_key"] = delayed.state_key
    if delayed.outcome in OUTCOMES:
        told["outcome"] = OUTCOMES[delayed.outcome]
        told["finalised_ts"] = delayed.ended_ts
    if delayed.event_id is not None:
        told["event_id"] = delayed.event_id
    if delayed.error is not None:
        told["error"] = orjson.Fragment(delayed.error)
    return told

"""`rooms/{room_id}/scheduled`: messages that are sent at a time of one's choice.

They are delayed events (MSC4140, `homeserver.delayed`), so they are kept over restarts, and whether their sender may
still say that is judged again when they are sent.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from msgspec import UNSET, Meta

from config import Settings
from homeserver.clock import Clock
from homeserver.delayed.clockwork import Clockwork
from homeserver.errors import InvalidParam, NotFound
from homeserver.guilds.api.fields import API, Maybe
from homeserver.guilds.rights import RoomRights
from homeserver.http.route import USER, Requester, route
from storage.delayed import BEING_SENT, FAILED, SENT, WAITS, Delayed

ALL: Final = f"{API}/rooms/{{room_id}}/scheduled"
ONE: Final = f"{ALL}/{{schedule_id}}"
MARK: Final = "scheduled-"
"""What transaction ids of these begin with, to tell them from other delayed events."""
NO_SUCH: Final = "You have not scheduled such a message in this room"

Moment = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""In ms since 1970."""
EventType = Annotated[str, Meta(min_length=1, max_length=255)]
TxnId = Annotated[str, Meta(min_length=1, max_length=255)]


class ScheduledAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    at_ts: int
    type: str
    content: dict[str, Any]
    state: Literal["waiting", "failed"]
    """What failed is told of for a week."""
    errcode: str | None = None
    error: str | None = None
    """Why it could not be sent."""


class ScheduledList(msgspec.Struct, frozen=True):
    scheduled: list[ScheduledAnswer]
    """The next one first."""


class ScheduleMade(msgspec.Struct, frozen=True):
    id: str


class ListScheduled(msgspec.Struct, frozen=True):
    room_id: str


class Schedule(msgspec.Struct, frozen=True):
    room_id: str
    at_ts: Moment
    content: dict[str, Any]
    type: EventType = "m.room.message"
    txn_id: TxnId | None = None
    """Asking twice with the same one is asking once."""


class ChangeScheduled(msgspec.Struct, frozen=True):
    room_id: str
    schedule_id: str
    at_ts: Moment | Maybe = UNSET
    type: EventType | Maybe = UNSET
    content: dict[str, Any] | Maybe = UNSET


class OneScheduled(msgspec.Struct, frozen=True):
    room_id: str
    schedule_id: str


@route("GET", ALL, auth=USER, rate="read")
async def list_scheduled(rights: RoomRights, clockwork: Clockwork, who: Requester, ask: ListScheduled) -> ScheduledList:
    """The caller's own scheduled messages in a room: those that wait, and those that could not be sent lately."""
    await rights.member(ask.room_id, who.user_id)
    mine = await clockwork.of(who.user_id)
    return ScheduledList([_answer(one) for one in mine if _is_told(one, ask.room_id) and one.outcome != SENT])


@route("POST", ALL, auth=USER, rate="message")
async def schedule_message(
    rights: RoomRights, clockwork: Clockwork, clock: Clock, settings: Settings, who: Requester, ask: Schedule
) -> ScheduleMade:
    """Have a message sent at a time. Whoever may not send it now can't schedule it."""
    await rights.check_message(ask.room_id, who.user_id, ask.type, ask.content)
    most_ms = settings.limits.max_schedule_ms
    delay_ms = _delay(ask.at_ts, clock.now_ms(), most_ms)
    txn_id = MARK + (ask.txn_id or secrets.token_urlsafe(12))
    made = await clockwork.add(
        who, ask.room_id, ask.type, ask.content, txn_id, delay_ms=delay_ms, most_ms=most_ms, due_ts=ask.at_ts
    )
    return ScheduleMade(made)


@route("PATCH", ONE, auth=USER, rate="message")
async def change_scheduled(
    rights: RoomRights, clockwork: Clockwork, clock: Clock, settings: Settings, who: Requester, ask: ChangeScheduled
) -> ScheduledAnswer:
    """Change a scheduled message, or when it is sent. 409 once it is sent."""
    found = await _find(clockwork, who.user_id, ask.room_id, ask.schedule_id)
    event_type = found.type if ask.type is UNSET else ask.type
    content = orjson.loads(found.content) if ask.content is UNSET else ask.content
    at_ts = found.due_ts if ask.at_ts is UNSET else ask.at_ts
    await rights.check_message(ask.room_id, who.user_id, event_type, content)
    most_ms = settings.limits.max_schedule_ms
    if found.outcome == WAITS:  # or it is told that it does not wait any more
        _delay(at_ts, clock.now_ms(), most_ms)
    return _answer(await clockwork.change(found.delay_id, who.user_id, at_ts, event_type, content, most_ms))


@route("DELETE", ONE, auth=USER, rate="message")
async def cancel_scheduled(clockwork: Clockwork, who: Requester, ask: OneScheduled) -> None:
    """Don't send it. 409 once it is sent."""
    found = await _find(clockwork, who.user_id, ask.room_id, ask.schedule_id)
    await clockwork.cancel(found.delay_id, who.user_id)


async def _find(clockwork: Clockwork, user_id: str, room_id: str, schedule_id: str) -> Delayed:
    try:
        found = await clockwork.get(schedule_id, user_id)
    except NotFound:
        raise NotFound(NO_SUCH) from None
    if not found.txn_id.startswith(MARK) or found.room_id != room_id:
        raise NotFound(NO_SUCH)
    return found


def _is_told(delayed: Delayed, room_id: str) -> bool:
    is_scheduled = delayed.room_id == room_id and delayed.txn_id.startswith(MARK) and delayed.state_key is None
    return is_scheduled and delayed.outcome in (WAITS, BEING_SENT, FAILED)


def _delay(at_ts: int, now: int, most_ms: int) -> int:
    """How long it is until then. Raises InvalidParam for the past, and for what is too far ahead."""
    delay_ms = at_ts - now
    if delay_ms < 1:
        raise InvalidParam("`at_ts` is over already")
    if delay_ms > most_ms:
        raise InvalidParam(f"`at_ts` is more than {most_ms} ms ahead")
    return delay_ms


def _answer(delayed: Delayed) -> ScheduledAnswer:
    error = {} if delayed.error is None else orjson.loads(delayed.error)
    return ScheduledAnswer(
        delayed.delay_id,
        delayed.due_ts,
        delayed.type,
        orjson.loads(delayed.content),
        "failed" if delayed.outcome == FAILED else "waiting",
        error.get("errcode"),
        error.get("error"),
    )

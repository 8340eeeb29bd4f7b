"""`/_matrix/client/v1/rooms/{roomId}/thread/{eventId}/subscription`: which threads somebody follows; and all of that,
page by page, beside what sliding sync tells.

MSC4306: https://github.com/matrix-org/matrix-spec-proposals/pull/4306
MSC4308: https://github.com/matrix-org/matrix-spec-proposals/pull/4308
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from homeserver.client.own import require_event_id
from homeserver.errors import InvalidParam
from homeserver.http.route import USER, Requester, route
from homeserver.relations.subscriptions import Page, Subscriptions
from homeserver.streams.tokens import RoomToken, parse_room_token
from storage.thread_subscriptions import AUTOMATIC, ENDED

UNSTABLE = "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription"
STABLE = "/_matrix/client/v1/rooms/{room_id}/thread/{event_id}/subscription"
DEFAULT_LIMIT = 100
MOST_CHANGES = 500
"""In one answer, whatever the client asks for."""


class OneThread(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    """Of the thread's root."""


class Subscribe(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    automatic: str | None = None
    """The event that made the client subscribe; None: the person wants it."""


class GetChanges(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    dir: Literal["b"]
    from_: str | None = None
    to: str | None = None
    limit: int = DEFAULT_LIMIT


@route("GET", UNSTABLE, STABLE, auth=USER, rate="read")
async def get_subscription(subscriptions: Subscriptions, who: Requester, ask: OneThread) -> dict[str, Any]:
    found = await subscriptions.get(who.user_id, ask.room_id, require_event_id(ask.event_id))
    return {"automatic": found.kind == AUTOMATIC}


@route("PUT", UNSTABLE, STABLE, auth=USER, rate="write")
async def subscribe(subscriptions: Subscriptions, who: Requester, ask: Subscribe) -> None:
    cause_id = None if ask.automatic is None else require_event_id(ask.automatic)
    await subscriptions.subscribe(who.user_id, ask.room_id, require_event_id(ask.event_id), cause_id)


@route("DELETE", UNSTABLE, STABLE, auth=USER, rate="write")
async def unsubscribe(subscriptions: Subscriptions, who: Requester, ask: OneThread) -> None:
    await subscriptions.unsubscribe(who.user_id, ask.room_id, require_event_id(ask.event_id))


@route(
    "GET",
    "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
    "/_matrix/client/v1/thread_subscriptions",
    auth=USER,
    rate="read",
    query=("dir", "from", "to", "limit"),
)
async def get_changes(subscriptions: Subscriptions, who: Requester, ask: GetChanges) -> dict[str, Any]:
    if ask.limit < 1:
        raise InvalidParam("`limit` must be greater than zero")
    newest = subscriptions.hub.position
    upto = newest if ask.from_ is None else min(newest, parse_room_token(ask.from_, "from").position)
    after = 0 if ask.to is None else parse_room_token(ask.to, "to").position
    page = await subscriptions.changes(who.user_id, after, upto, min(ask.limit, MOST_CHANGES))
    return told_changes(page, "end")


def told_changes(page: Page, end: str) -> dict[str, Any]:
    """A page as JSON; `end` is what the token for the next one is called."""
    found: dict[str, Any] = {}
    for change in page.changes:
        told: dict[str, Any] = {"bump_stamp": change.position}
        if change.kind != ENDED:
            told["automatic"] = change.kind == AUTOMATIC
        by_room = found.setdefault("unsubscribed" if change.kind == ENDED else "subscribed", {})
        by_room.setdefault(change.room_id, {})[change.root_id] = told
    if page.end is not None:
        found[end] = str(RoomToken(page.end))
    return found

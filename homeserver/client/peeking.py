"""`GET /_matrix/client/v3/rooms/{roomId}/initialSync`, `GET /_matrix/client/v3/events`: a room seen from outside.

COMPAT matrix-js-sdk (`peekInRoom`), Element: rooms that anybody may read are shown by these before one joins. Without a
room, `/events` and `/initialSync` are what `/sync` is today.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-previews
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from homeserver.clock import Clock
from homeserver.errors import Forbidden, InvalidParam
from homeserver.http.route import GUEST, USER, Requester, route
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import Page
from homeserver.rooms.render import Reader, client_event
from homeserver.streams.tokens import RoomToken, parse_room_token, parse_stream_token
from homeserver.sync.older import OlderSync
from homeserver.sync.peeks import Peeks

MEMBERSHIPS = frozenset({"invite", "join", "leave", "ban"})
"""Those that the specification knows here."""


class GetRoom(msgspec.Struct, frozen=True):
    room_id: str
    limit: int = 20


class GetEvents(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    from_: str | None = None
    timeout: int = 0
    room_id: str | None = None


class GetAll(msgspec.Struct, frozen=True):
    limit: int = 10
    archived: bool = False


@route("GET", "/_matrix/client/v3/rooms/{room_id}/initialSync", auth=GUEST, rate="read", query=("limit",))
async def get_room(peeks: Peeks, bundles: Bundles, clock: Clock, who: Requester, ask: GetRoom) -> dict[str, Any]:
    _check_limit(ask.limit)
    found = await peeks.snapshot(who.user_id, ask.room_id, ask.limit)
    reader = Reader(who.user_id, who.device_id, clock.now_ms())
    messages: dict[str, Any] = {
        "chunk": (await _copies(bundles, reader, found.page))[::-1],
        "end": str(RoomToken(found.upto)),
    }
    if found.page.end is not None:
        messages["start"] = str(found.page.end)
    answer: dict[str, Any] = {
        "room_id": ask.room_id,
        "messages": messages,
        "state": [orjson.Fragment(client_event(stored, reader)) for stored in found.state],
        "visibility": "public" if found.is_published else "private",
        "account_data": [orjson.Fragment(event) for event in found.account_data],
    }
    if found.membership in MEMBERSHIPS:
        answer["membership"] = found.membership
    return answer


@route("GET", "/_matrix/client/v3/events", auth=GUEST, rate="sync", query=("from", "timeout", "room_id"))
async def get_events(
    peeks: Peeks, older: OlderSync, bundles: Bundles, clock: Clock, who: Requester, ask: GetEvents
) -> dict[str, Any]:
    timeout_ms = max(0, ask.timeout)
    if ask.room_id is None:
        if who.is_guest:
            raise Forbidden("Guests may ask for one room at a time: `room_id`", "M_GUEST_ACCESS_FORBIDDEN")
        return await older.events(who, None if ask.from_ is None else parse_stream_token(ask.from_), timeout_ms)
    after = None if ask.from_ is None else parse_room_token(ask.from_).position
    news = await peeks.news(who, ask.room_id, after, timeout_ms)
    reader = Reader(who.user_id, who.device_id, clock.now_ms())
    return {
        "start": str(RoomToken(news.start)),
        "end": str(RoomToken(news.end)),
        "chunk": await _copies(bundles, reader, news.page),
    }


@route("GET", "/_matrix/client/v3/initialSync", auth=USER, rate="sync", query=("limit", "archived"))
async def get_all(older: OlderSync, who: Requester, ask: GetAll) -> dict[str, Any]:
    _check_limit(ask.limit)
    return await older.snapshot(who, ask.limit, ask.archived)


def _check_limit(limit: int) -> None:
    if limit < 0:
        raise InvalidParam("`limit` must not be negative")


async def _copies(bundles: Bundles, reader: Reader, page: Page) -> list[orjson.Fragment]:
    reader = Reader(reader.user_id, reader.device_id, reader.now_ms, page.replaced.get)
    reader = await bundles.reader(reader, page.room, [stored for stored, _ in page.events])
    return [orjson.Fragment(client_event(stored, reader, membership=membership)) for stored, membership in page.events]

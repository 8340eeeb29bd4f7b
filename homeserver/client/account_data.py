"""`/_matrix/client/v3/user/{userId}/…/account_data/{type}`: what a person's clients keep on the server.

Spec: https://spec.matrix.org/v1.19/client-server-api/#client-config
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.client.own import require_acquainted, require_self
from homeserver.errors import InvalidParam, MatrixError, NotFound
from homeserver.http.route import USER, Reply, Requester, route
from homeserver.rooms.registry import Rooms
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.read_markers import FULLY_READ

KEPT_BY_SERVER = frozenset({FULLY_READ, "m.push_rules"})
"""Written through endpoints of their own only."""
MAX_TYPE_BYTES = 255


class Put(msgspec.Struct, frozen=True):
    user_id: str
    type: str
    content: dict[str, Any]


class Get(msgspec.Struct, frozen=True):
    user_id: str
    type: str


class PutInRoom(msgspec.Struct, frozen=True):
    user_id: str
    room_id: str
    type: str
    content: dict[str, Any]


class GetInRoom(msgspec.Struct, frozen=True):
    user_id: str
    room_id: str
    type: str


@route("PUT", "/_matrix/client/v3/user/{user_id}/account_data/{type}", auth=USER, rate="write", body="content")
async def put_account_data(data: AccountData, who: Requester, ask: Put) -> None:
    require_self(who, ask.user_id)
    _check_type(ask.type)
    await data.put(who.user_id, GLOBAL, ask.type, ask.content)


@route("GET", "/_matrix/client/v3/user/{user_id}/account_data/{type}", auth=USER, rate="read")
async def get_account_data(data: AccountData, who: Requester, ask: Get) -> Reply:
    require_self(who, ask.user_id)
    return await _content(data, who.user_id, GLOBAL, ask.type)


@route(
    "PUT",
    "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/account_data/{type}",
    auth=USER,
    rate="write",
    body="content",
)
async def put_room_account_data(data: AccountData, rooms: Rooms, who: Requester, ask: PutInRoom) -> None:
    require_self(who, ask.user_id)
    _check_type(ask.type)
    room = await require_acquainted(rooms, ask.room_id, who.user_id)
    await data.put(who.user_id, room.nid, ask.type, ask.content)


@route("GET", "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/account_data/{type}", auth=USER, rate="read")
async def get_room_account_data(data: AccountData, rooms: Rooms, who: Requester, ask: GetInRoom) -> Reply:
    require_self(who, ask.user_id)
    room = await require_acquainted(rooms, ask.room_id, who.user_id)
    return await _content(data, who.user_id, room.nid, ask.type)


def _check_type(event_type: str) -> None:
    if event_type in KEPT_BY_SERVER:
        raise MatrixError(405, "M_BAD_JSON", f"{event_type} is kept by the server: it can't be set here")
    if len(event_type.encode()) > MAX_TYPE_BYTES:
        raise InvalidParam(f"A type has at most {MAX_TYPE_BYTES} bytes")


async def _content(data: AccountData, user_id: str, room_nid: int, event_type: str) -> Reply:
    content = await data.get(user_id, room_nid, event_type)
    if content is None:
        raise NotFound("There is no account data of this type")
    return Reply(body=content)

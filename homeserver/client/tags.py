"""`/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`: how one sorts one's rooms.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-tagging
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.client.own import require_acquainted, require_self
from homeserver.http.route import USER, Requester, route
from homeserver.rooms.registry import Rooms
from homeserver.userdata.tags import Tags


class ListTags(msgspec.Struct, frozen=True):
    user_id: str
    room_id: str


class PutTag(msgspec.Struct, frozen=True):
    user_id: str
    room_id: str
    tag: str
    about: dict[str, Any]


class RemoveTag(msgspec.Struct, frozen=True):
    user_id: str
    room_id: str
    tag: str


@route("GET", "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/tags", auth=USER, rate="read")
async def list_tags(tags: Tags, rooms: Rooms, who: Requester, ask: ListTags) -> dict[str, Any]:
    require_self(who, ask.user_id)
    room = await require_acquainted(rooms, ask.room_id, who.user_id)
    return {"tags": await tags.of_room(who.user_id, room.nid)}


@route("PUT", "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/tags/{tag}", auth=USER, rate="write", body="about")
async def put_tag(tags: Tags, rooms: Rooms, who: Requester, ask: PutTag) -> None:
    require_self(who, ask.user_id)
    room = await require_acquainted(rooms, ask.room_id, who.user_id)
    await tags.put(who.user_id, room.nid, ask.tag, ask.about)


@route("DELETE", "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/tags/{tag}", auth=USER, rate="write")
async def remove_tag(tags: Tags, rooms: Rooms, who: Requester, ask: RemoveTag) -> None:
    require_self(who, ask.user_id)
    room = await require_acquainted(rooms, ask.room_id, who.user_id)
    await tags.remove(who.user_id, room.nid, ask.tag)

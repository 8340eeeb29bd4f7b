"""`/_matrix/client/v3/directory/list/room/{roomId}`: whether a room is in the directory of published rooms.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directorylistroomroomid
"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.http.route import NONE, USER, Requester, route
from homeserver.rooms.directory import Directory


class IsPublished(msgspec.Struct, frozen=True):
    room_id: str


class Publish(msgspec.Struct, frozen=True):
    room_id: str
    visibility: Literal["private", "public"] = "public"


@route("GET", "/_matrix/client/v3/directory/list/room/{room_id}", auth=NONE, rate="directory")
async def is_published(directory: Directory, ask: IsPublished) -> dict[str, str]:
    return {"visibility": "public" if await directory.is_published(ask.room_id) else "private"}


@route("PUT", "/_matrix/client/v3/directory/list/room/{room_id}", auth=USER, rate="write")
async def publish(directory: Directory, who: Requester, ask: Publish) -> None:
    await directory.publish(who, ask.room_id, ask.visibility == "public")

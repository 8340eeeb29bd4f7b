"""`/_matrix/client/v3/directory/room/{roomAlias}` and a room's own list of aliases.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-aliases
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.route import GUEST, NONE, USER, Requester, route
from homeserver.rooms.aliases import Aliases


class OneAlias(msgspec.Struct, frozen=True):
    room_alias: str


class NewAlias(msgspec.Struct, frozen=True):
    room_alias: str
    room_id: str


class AliasesOfRoom(msgspec.Struct, frozen=True):
    room_id: str


@route("GET", "/_matrix/client/v3/directory/room/{room_alias}", auth=NONE, rate="directory")
async def get_alias(aliases: Aliases, ask: OneAlias) -> dict[str, Any]:
    found = await aliases.resolve(ask.room_alias)
    return {"room_id": found.room_id, "servers": found.servers}


@route("PUT", "/_matrix/client/v3/directory/room/{room_alias}", auth=USER, rate="write")
async def set_alias(aliases: Aliases, who: Requester, ask: NewAlias) -> None:
    await aliases.create(who, ask.room_alias, ask.room_id)


@route("DELETE", "/_matrix/client/v3/directory/room/{room_alias}", auth=USER, rate="write")
async def delete_alias(aliases: Aliases, who: Requester, ask: OneAlias) -> None:
    await aliases.remove(who, ask.room_alias)


@route("GET", "/_matrix/client/v3/rooms/{room_id}/aliases", auth=GUEST, rate="read")
async def get_aliases_of_room(aliases: Aliases, who: Requester, ask: AliasesOfRoom) -> dict[str, list[str]]:
    return {"aliases": await aliases.of_room(ask.room_id, who.user_id)}

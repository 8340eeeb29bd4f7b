"""`GET /_matrix/federation/v1/query/…`: profiles of people here, and what the aliases of this server stand for.

Spec: https://spec.matrix.org/v1.19/server-server-api/#querying-for-information
"""

from __future__ import annotations

from typing import Any

import msgspec

from config import Settings
from federation.inbound.x_matrix import Origin
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from homeserver.errors import InvalidParam
from homeserver.http.route import FEDERATION, route
from homeserver.rooms.aliases import Aliases
from homeserver.userdata.profiles import Profiles


class QueryProfile(msgspec.Struct, frozen=True):
    user_id: str
    field: str | None = None


class QueryDirectory(msgspec.Struct, frozen=True):
    room_alias: str


@route("GET", "/_matrix/federation/v1/query/profile", auth=FEDERATION, rate="federation", query=("user_id", "field"))
async def query_profile(profiles: Profiles, settings: Settings, who: Origin, ask: QueryProfile) -> dict[str, Any]:
    try:
        user_id = parse_user_id(ask.user_id)
    except InvalidIdentifier as error:
        raise InvalidParam(f"`user_id`: {error}") from None
    if server_of(user_id) != settings.server.name:
        raise InvalidParam("`user_id` is of another server")
    fields = await profiles.get(user_id)
    if ask.field is None:
        return fields
    # A field that is not set is left out: that is not the same as somebody who is not there.
    return {ask.field: fields[ask.field]} if ask.field in fields else {}


@route("GET", "/_matrix/federation/v1/query/directory", auth=FEDERATION, rate="federation", query=("room_alias",))
async def query_directory(aliases: Aliases, who: Origin, ask: QueryDirectory) -> dict[str, Any]:
    found = await aliases.resolve_own(ask.room_alias)
    return {"room_id": found.room_id, "servers": found.servers}

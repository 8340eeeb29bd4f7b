"""`mutes/{room_id}`: hearing nothing of a room, for good or for a while."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from homeserver.client.own import require_room_id
from homeserver.errors import Forbidden
from homeserver.friends.mutes import Mutes
from homeserver.guilds.api.fields import API
from homeserver.http.route import USER, Requester, route
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms


class MuteRoom(msgspec.Struct, frozen=True):
    room_id: str
    until_ts: Annotated[int, Meta(ge=0)] | None = None
    """In ms since 1970; absent: until it is unmuted."""


class UnmuteRoom(msgspec.Struct, frozen=True):
    room_id: str


@route("PUT", f"{API}/mutes/{{room_id}}", auth=USER, rate="write")
async def mute_room(mutes: Mutes, rooms: Rooms, who: Requester, ask: MuteRoom) -> None:
    """Have no notifications from a room that one is in. Kept as a push rule, so that all clients know of it."""
    room = await rooms.require(require_room_id(ask.room_id))
    if room.membership_of(who.user_id) != "join":
        raise Forbidden(NOT_IN_ROOM)
    await mutes.mute(who.user_id, ask.room_id, ask.until_ts)


@route("DELETE", f"{API}/mutes/{{room_id}}", auth=USER, rate="write")
async def unmute_room(mutes: Mutes, who: Requester, ask: UnmuteRoom) -> None:
    """Have notifications from a room again."""
    await mutes.unmute(who.user_id, require_room_id(ask.room_id))

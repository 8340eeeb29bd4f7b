"""`room.subscribe`: what a room's view needs at first, in one call: the newest history, and who is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from federation.service import service
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.gateway.calls import ROOMS, Caller, Calls, Http, Text, at, convert
from homeserver.gateway.voice.booth import Roll
from homeserver.http.route import Requester
from homeserver.rooms.access import RoomAccess

DEFAULT_LIMIT = 50
MOST_ONLINE = 500


class Subscribe(msgspec.Struct, frozen=True):
    room_id: Text
    limit: int = DEFAULT_LIMIT


class Unsubscribe(msgspec.Struct, frozen=True):
    room_id: Text


@service
class Views:
    """Its methods are calls."""

    calls: Calls
    access: RoomAccess
    presence: PresenceBoard
    roll: Roll

    async def subscribe(self, caller: Caller, who: Requester, params: Mapping[str, Any]) -> object:
        """Events come whether somebody subscribed or not; they follow on what is here."""
        ask: Subscribe = convert(params, Subscribe)
        room = await self.access.member(ask.room_id, who.user_id)
        query: dict[str, str | int] = {"dir": "b", "limit": max(0, min(ask.limit, 100))}
        page = orjson.loads(await self.calls.ask(who, Http("GET", f"{ROOMS}/{at(ask.room_id)}/messages", None, query)))
        online = []
        for user_id in room.local_joined:
            if (presence := self.presence.peek(user_id)) != "offline":
                online.append({"user_id": user_id, "presence": presence})
                if len(online) == MOST_ONLINE:
                    break
        return {
            "room_id": ask.room_id,
            "messages": page["chunk"][::-1],
            "prev": page.get("end"),
            "online": online,
            "voice": await self.roll.of(room),
        }

    async def unsubscribe(self, caller: Caller, who: Requester, params: Mapping[str, Any]) -> object:
        convert(params, Unsubscribe)
        return {}

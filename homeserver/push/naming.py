"""What people call a room, and who says something in it: for those who are told of it elsewhere than in `/sync`."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from federation.room.event import StateKey
from federation.service import service
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import CANONICAL_ALIAS, NAME
from homeserver.rooms.registry import Rooms
from storage.database import Database
from storage.ports import StoredEvent
from storage.stripped import get_stripped

ENCRYPTION: StateKey = ("m.room.encryption", "")


class Names(msgspec.Struct, frozen=True, gc=False):
    """None for what is not known, or not set."""

    room: str | None = None
    alias: str | None = None
    sender: str | None = None
    is_encrypted: bool = False
    """Whether what is said in the room is the business of those who are in it."""


@service
class Naming:
    """Looks for names, in rooms of this server and in what came with invitations to others."""

    database: Database
    rooms: Rooms
    events: EventCache

    async def of(self, room_id: str, stored: StoredEvent) -> Names:
        """Names for an event."""
        member: StateKey = ("m.room.member", stored.event.sender)
        room = await self.rooms.get(room_id) if stored.position else None
        if room is None:
            shown = (await self.database.run(get_stripped, [stored.nid])).get(stored.nid, b"[]")
            told = {(one.get("type"), one.get("state_key")): one.get("content") for one in orjson.loads(shown)}
        else:
            told = {}
            for key in (NAME, CANONICAL_ALIAS, member, ENCRYPTION):
                ref = room.visible.state.get(key)
                piece = None if ref is None else await self.events.get(ref.nid)
                told[key] = None if piece is None else piece.event.content
        return Names(
            _text(told.get(NAME), "name"),
            _text(told.get(CANONICAL_ALIAS), "alias"),
            _text(told.get(member), "displayname"),
            told.get(ENCRYPTION) is not None,
        )


def _text(content: Any, name: str) -> str | None:
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) and value else None

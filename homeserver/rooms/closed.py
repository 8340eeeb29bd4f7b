"""Rooms whose past is closed to those who were in them, whatever their history's visibility would allow."""

from __future__ import annotations

from typing import Protocol

from attrs import field

from federation.service import service
from homeserver.rooms.live import LiveRoom


class Lock(Protocol):
    """Knows of some rooms to whom they are closed (`homeserver.guilds`)."""

    async def __call__(self, room: LiveRoom, user_id: str) -> bool: ...


@service
class ClosedRooms:
    """Asked about whoever is not in a room."""

    locks: list[Lock] = field(factory=list)

    async def is_closed(self, room: LiveRoom, user_id: str) -> bool:
        """Whether nothing of the room may be shown to somebody who is not in it any more."""
        for lock in self.locks:
            if await lock(room, user_id):
                return True
        return False

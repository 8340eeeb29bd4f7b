"""What memberships need other servers for: the port of `homeserver.rooms.membership`, filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from federation.service import service
from homeserver.errors import InvalidParam
from homeserver.rooms.compose import Template
from homeserver.rooms.membership import Check
from homeserver.rooms.remote.doorway import Doorway
from homeserver.rooms.remote.invitations import Invitations
from homeserver.rooms.remote.outside import OutsideRooms
from storage import memberships as membership_rows
from storage import rooms as room_rows
from storage.database import Database
from storage.memberships import RoomOfUser
from storage.ports import Cursor


@service
class RemoteElsewhere:
    """For a server that federates."""

    doorway: Doorway
    invitations: Invitations
    outside: OutsideRooms
    database: Database
    charge_join: Callable[[str], None]
    """Asked with the user's id before another server is troubled for them; raises LimitExceeded."""

    async def holds(self, room_id: str, user_id: str) -> str | None:
        found = await self.outside.find(room_id, user_id)
        return None if found is None else found.room.membership

    async def join(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        self.charge_join(user_id)
        await self.enter(room_id, user_id, content, via)

    async def enter(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        await self.doorway.join(room_id, user_id, content, via)

    async def knock(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        self.charge_join(user_id)
        await self.doorway.knock(room_id, user_id, content, via)

    async def leave(self, room_id: str, user_id: str, content: Mapping[str, Any]) -> bool:
        return await self.doorway.leave(room_id, user_id, content)

    async def forget(self, room_id: str, user_id: str) -> bool:
        found = await self.database.run(_membership, room_id, user_id)
        if found is None:
            return False
        if found.membership in ("invite", "knock"):
            raise InvalidParam("You are invited to this room, or knock there: end that first", "M_UNKNOWN")
        await self.database.write(membership_rows.set_forgotten, found.room_nid, user_id)
        return True

    def check_reachable(self, user_id: str) -> None:
        """Everybody may be: that shows when it is tried."""

    async def invite(self, room_id: str, template: Template, check: Check) -> str:
        return await self.invitations.send(room_id, template, check)


def _membership(cursor: Cursor, room_id: str, user_id: str) -> RoomOfUser | None:
    room_nid = room_rows.find_nid(cursor, room_id)
    return None if room_nid is None else membership_rows.membership_of(cursor, room_nid, user_id)

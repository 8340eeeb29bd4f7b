"""What people keep for themselves about a room comes along when they join the one that replaces it.

Tags and `m.direct` here; others that keep something by room are told, too (`Heir`). What somebody has said of the new
room already is left as it is.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-upgrades
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson
from attrs import field

from federation.service import service
from homeserver.rooms.accept import Accepted
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.tags import TAG
from storage import memberships as membership_rows
from storage.database import Database

DIRECT = "m.direct"


class Heir(Protocol):
    """Keeps something of people by room."""

    async def room_replaced(self, user_id: str, old_room_id: str, new_room_id: str) -> None:
        """A local user who was in the one has joined the other, which says that it is its successor."""


@service
class Heirlooms:
    """An observer of the door (`homeserver.rooms.accept.Observer`)."""

    rooms: Rooms
    database: Database
    account_data: AccountData
    tasks: Tasks
    server_name: str
    heirs: list[Heir] = field(factory=list)

    def accepted(self, accepted: Accepted) -> None:
        old_id = _predecessor(accepted.room.create.content)
        if old_id is None or old_id == accepted.room.room_id:
            return
        for new in accepted.events:
            for change in new.changes:
                if change.key[0] != "m.room.member" or change.new is None or change.new.membership != "join":
                    continue
                came = change.old is None or change.old.membership != "join"
                if came and change.key[1].partition(":")[2] == self.server_name:
                    moving = self.move(change.key[1], old_id, accepted.room.nid, accepted.room.room_id)
                    self.tasks.spawn("heirlooms", moving)

    async def move(self, user_id: str, old_id: str, new_nid: int, new_id: str) -> None:
        """Hand over what a user has kept about the old room, if it ever was in it."""
        old = await self.rooms.get(old_id)
        if old is None:
            return
        stay = await self.database.run(membership_rows.membership_of, old.nid, user_id)
        if stay is None or stay.membership not in ("join", "leave"):
            return
        tags = await self.account_data.get(user_id, old.nid, TAG)
        if tags is not None:
            kept = tags

            def take_over(content: dict[str, Any]) -> dict[str, Any] | None:
                return None if content else _object(kept)

            await self.account_data.edit(user_id, new_nid, TAG, take_over)
        await self.account_data.edit(user_id, GLOBAL, DIRECT, lambda content: _with_successor(content, old_id, new_id))
        for heir in self.heirs:
            await heir.room_replaced(user_id, old_id, new_id)


def _predecessor(content: Any) -> str | None:
    named = content.get("predecessor")
    room_id = named.get("room_id") if isinstance(named, dict) else None
    return room_id if isinstance(room_id, str) else None


def _with_successor(content: dict[str, Any], old_id: str, new_id: str) -> dict[str, Any] | None:
    """`m.direct` with the new room wherever the old one is; None where that changes nothing."""
    changed = {
        user_id: [*rooms, new_id]
        for user_id, rooms in content.items()
        if isinstance(rooms, list) and old_id in rooms and new_id not in rooms
    }
    return {**content, **changed} if changed else None


def _object(json: bytes) -> dict[str, Any] | None:
    value = orjson.loads(json)
    return value if isinstance(value, dict) else None

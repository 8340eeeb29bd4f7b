"""Rooms that let guests in, and what becomes of guests where one does so no more: those of this server leave it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#guest-access
"""

from __future__ import annotations

from typing import Protocol

import structlog

from federation.service import service
from homeserver.errors import MatrixError
from homeserver.rooms.accept import Accepted
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.tasks import Tasks
from storage import accounts as rows
from storage.database import Database

GUEST_ACCESS = ("m.room.guest_access", "")

_log = structlog.get_logger("homeserver.rooms")


async def is_open_to_guests(room: LiveRoom, events: EventCache) -> bool:
    ref = room.visible.state.get(GUEST_ACCESS)
    stored = None if ref is None else await events.get(ref.nid)
    return stored is not None and stored.event.content.get("guest_access") == "can_join"


class Leaving(Protocol):
    """What of `homeserver.rooms.membership` is needed."""

    async def leave(self, room_id: str, user_id: str, reason: str | None = None) -> None: ...


@service
class GuestWatch:
    """Observes the door."""

    memberships: Leaving
    events: EventCache
    database: Database
    tasks: Tasks

    def accepted(self, accepted: Accepted) -> None:
        if accepted.room.local_joined and any(change.key == GUEST_ACCESS for change in accepted.all_changes()):
            self.tasks.spawn("guests leave", self._see_off(accepted.room))

    async def _see_off(self, room: LiveRoom) -> None:
        if await is_open_to_guests(room, self.events):
            return
        for user_id in await self.database.run(rows.guests_among, list(room.local_joined)):
            try:
                await self.memberships.leave(room.room_id, user_id, "This room is closed to guests")
            except MatrixError as error:
                _log.info("a guest could not leave", room=room.room_id, user=user_id, why=error.error)

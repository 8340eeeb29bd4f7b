"""`m.typing` from other servers: who is typing there.

Spec: https://spec.matrix.org/v1.19/server-server-api/#typing-notifications
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.service import service
from federation.wire.edus import Typing, read
from homeserver.ephemeral.inbound.rooms import find_room, speaks_for_member
from homeserver.ephemeral.typing import TypingBoard
from homeserver.rooms.serve.access import PeerAccess

TIMEOUT_MS = 60_000
"""COMPAT Synapse: it says again every 40 seconds that somebody is still typing."""


@service
class TypingThere:
    """An `EduHandler`."""

    access: PeerAccess
    board: TypingBoard

    async def __call__(self, origin: str, content: Mapping[str, Any]) -> None:
        said = read(content, Typing)
        if said is None:
            return
        room = await find_room(self.access, origin, said.room_id)
        if room is not None and speaks_for_member(origin, said.user_id, room):
            self.board.set(room, said.user_id, said.typing, TIMEOUT_MS)

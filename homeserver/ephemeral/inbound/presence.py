"""`m.presence` from other servers: who is there. Off unless the settings say that presence is for other servers too.

Spec: https://spec.matrix.org/v1.19/server-server-api/#presence
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.service import service
from federation.wire.edus import BUSY_WORDS, read_presence
from homeserver.ephemeral.inbound.rooms import speaks_for
from homeserver.ephemeral.person import BUSY
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.stranger import Said

MAX_STATUS_CHARACTERS = 1000
"""As many as people here may say."""


@service
class PresenceThere:
    """An `EduHandler`."""

    board: PresenceBoard

    async def __call__(self, origin: str, content: Mapping[str, Any]) -> None:
        said: dict[str, Said] = {}
        for one in read_presence(content):
            if speaks_for(origin, one.user_id):
                status = one.status_msg[:MAX_STATUS_CHARACTERS] if one.status_msg else None
                if one.is_busy:
                    said[one.user_id] = Said(BUSY, False, None if status == BUSY_WORDS else status, one.last_active_ago)
                else:
                    said[one.user_id] = Said(one.presence, one.currently_active, status, one.last_active_ago)
        await self.board.receive(said)

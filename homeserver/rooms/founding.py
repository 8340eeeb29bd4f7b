"""Founding rooms: the create event, and a draft that holds it."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from federation.room.versions import RoomVersion
from homeserver.rooms.compose import Draft, Means, Template, found

ROOM_ID_LETTERS = string.ascii_letters


@frozen
class Founder:
    """Begins rooms. One per process, since it sees to it that no two are alike."""

    means: Means
    _last_ts: list[int] = field(factory=lambda: [0])

    def found(self, creator: str, version: RoomVersion, content: Mapping[str, Any]) -> Draft:
        """A draft of a new room with its create event. `content` is without the version and a `creator`.

        Raises Forbidden or BadJson. Nothing is known of the room before the draft is appended.
        """
        content = {**content, "room_version": version.identifier}
        if not version.creator_is_sender:
            content["creator"] = creator
        # In version 12 the room's id is the hash of this event: two alike within a millisecond would be one room.
        ts = max(self.means.clock.now_ms(), self._last_ts[0] + 1)
        self._last_ts[0] = ts
        room_id = None
        if not version.room_id_is_hash:
            letters = "".join(secrets.choice(ROOM_ID_LETTERS) for _ in range(18))
            room_id = f"!{letters}:{self.means.identity.server_name}"
        return found(self.means, version, room_id, Template("m.room.create", creator, content, "", None, None, ts))

"""What events say about people beside what is in them: who speaks is active, and who leaves is no longer typing.

Who speaks may type on: clients say when that ends, or its time does. COMPAT Complement, and what bots do.
"""

from __future__ import annotations

import msgspec

from federation.room.identifiers import server_of
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.typing import TypingBoard
from homeserver.rooms.accept import Accepted


class RoomWatch(msgspec.Struct, frozen=True):
    """An observer of the door (`homeserver.rooms.accept.Observer`)."""

    typing: TypingBoard
    presence: PresenceBoard
    server_name: str

    def accepted(self, accepted: Accepted) -> None:
        nid = accepted.room.nid
        for new in accepted.events:
            event = new.stored.event
            if event.state_key is None and server_of(event.sender) == self.server_name:
                self.presence.active(event.sender)
        for change in accepted.all_changes():
            if change.key[0] != "m.room.member":
                continue
            if change.new is None or change.new.membership != "join":
                self.typing.stop(nid, change.key[1])
            elif (change.old is None or change.old.membership != "join") and (
                server_of(change.key[1]) == self.server_name
            ):
                self.presence.joined(change.key[1])

"""May this server ask about this room: the questions before anything of it is told.

Spec: https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls
"""

from __future__ import annotations

from attrs import field

from federation.room.acl import ServerAcl
from federation.service import service
from homeserver.errors import Forbidden, NotFound
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from storage.shared import Memory

SERVER_ACL = ("m.room.server_acl", "")


class Blurred(Forbidden):
    """What is asked depends on members that this server has not fetched, or never had.

    COMPAT Synapse: its code for it, of MSC3895, which no specification has yet.
    """

    def __init__(self) -> None:
        super().__init__(
            "This server does not know everybody who was in the room then: ask another one",
            "ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE",
        )


@service
class PeerAccess:
    """Decides which rooms a peer may ask about."""

    rooms: Rooms
    events: EventCache
    _acls: Memory[tuple[int, int], ServerAcl] = field(factory=lambda: Memory(1_000))
    """By the event's nid and the one of its redaction: a redacted one lets nobody in at all."""

    async def room(self, origin: str, room_id: str) -> LiveRoom:
        """A room in which this server is, for whoever its ACL lets in. Raises NotFound and Forbidden."""
        room = await self.known(origin, room_id)
        if not room.local_joined:
            raise NotFound("This server is not in that room")
        return room

    async def known(self, origin: str, room_id: str) -> LiveRoom:
        """A room, also one that this server has left: what its people said last may be here only, and be cited
        elsewhere.
        """
        room = await self.rooms.get(room_id)
        if room is None:
            raise NotFound("This server is not in that room")
        if not await self.is_allowed(origin, room):
            raise Forbidden("Your server is not allowed in this room")
        return room

    async def member(self, origin: str, room_id: str) -> LiveRoom:
        """A room in which this server is, for a server that is in it too."""
        room = await self.room(origin, room_id)
        if origin not in room.servers:
            raise Forbidden("Your server is not in this room")
        return room

    async def whole(self, origin: str, room_id: str) -> LiveRoom:
        """The same as `room`, for what needs all members. Raises NotFound where they are not all known here yet, so
        that another server is asked.
        """
        room = await self.room(origin, room_id)
        if room.partial is not None:
            raise NotFound("This server is not fully in that room yet: ask another one")
        return room

    async def is_allowed(self, server: str, room: LiveRoom) -> bool:
        """Whether the room's ACL lets a server take part."""
        ref = room.visible.state.get(SERVER_ACL)
        if ref is None:
            return True
        stored = await self.events.get(ref.nid)
        if stored is None:
            return True
        key = (ref.nid, stored.redacted_by)
        acl = self._acls.get(key)
        if acl is None:
            acl = ServerAcl.parse(stored.event.content)
            self._acls.put(key, acl)
        return acl.allows(server)

"""Who may look into a room, and at which moment of it: the question before any of its events is read.

    joined now                      the room as it is
    left, kicked or banned          the room as it was when that happened, unless the user has forgotten it
    anybody else, guests too        the room as it is, if it is world-readable now; nothing otherwise
    to whom a room is closed        nothing, whatever the rest says: `homeserver.rooms.closed`

An invitation or a knock opens nothing by itself. Who may see which *event* is `homeserver.rooms.tracing`'s business.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-previews
"""

from __future__ import annotations

import msgspec
from attrs import field

from federation.service import service
from homeserver.errors import Forbidden
from homeserver.rooms.closed import ClosedRooms
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms
from homeserver.rooms.tracing import WORLD_READABLE
from homeserver.rooms.visibility import Visibility, last_stay
from storage.database import Database
from storage.events import load_events
from storage.memberships import membership_history, membership_of
from storage.ports import Cursor, StoredEvent


class Access(msgspec.Struct, frozen=True):
    """Leave to look into a room."""

    room: LiveRoom
    user_id: str
    left: StoredEvent | None = None
    """For a former member: the event that ended its latest stay. Its `after` is the state that it may see."""
    is_world_readable: bool = False

    @property
    def is_member(self) -> bool:
        return self.room.membership_of(self.user_id) == "join"


@service
class RoomAccess:
    """Decides who may look into a room."""

    rooms: Rooms
    visibility: Visibility
    database: Database
    closed: ClosedRooms = field(factory=ClosedRooms)

    async def member(self, room_id: str, user_id: str) -> LiveRoom:
        """The room, for somebody who is in it now. Raises Forbidden."""
        room = await self.rooms.require(room_id)
        if room.membership_of(user_id) != "join":
            raise Forbidden(NOT_IN_ROOM)
        return room

    async def member_of_whole(self, room_id: str, user_id: str) -> LiveRoom:
        """The same for who needs to know all members: waits for them where they are yet to be fetched.

        Raises StillPartial if that takes too long.
        """
        room = await self.member(room_id, user_id)
        if room.partial is not None:
            await self.rooms.whole(room)
            room = await self.member(room_id, user_id)
        return room

    async def reader(self, room_id: str, user_id: str) -> Access:
        """Leave for a member, a former member, or anybody where the room is world-readable. Raises Forbidden,
        whether the room exists or not.
        """
        room = await self.rooms.require(room_id)
        member = room.visible.state.get(("m.room.member", user_id))
        if member is not None and member.membership == "join":
            return Access(room, user_id)
        if await self.closed.is_closed(room, user_id):
            raise Forbidden(NOT_IN_ROOM)
        await self.visibility.prepare([room])
        readable = self.visibility.setting_now(room) == WORLD_READABLE
        left = None if member is None else await self.database.run(read_leaving, room.nid, user_id, member.nid)
        if left is None and not readable:
            raise Forbidden(NOT_IN_ROOM)
        return Access(room, user_id, left, readable)

    async def reader_of_whole(self, room_id: str, user_id: str) -> Access:
        """The same for who needs to know all members, as `member_of_whole`."""
        access = await self.reader(room_id, user_id)
        if access.room.partial is not None:
            await self.rooms.whole(access.room)
            access = await self.reader(room_id, user_id)
        return access


def read_leaving(cursor: Cursor, room_nid: int, user_id: str, member_nid: int) -> StoredEvent | None:
    """The event that ended a user's latest stay in a room; None if there was none, or it is forgotten.

    `member_nid`: the user's member event that is in force.
    """
    current = membership_of(cursor, room_nid, user_id)
    if current is None or current.forgotten:
        return None
    stay = last_stay(membership_history(cursor, room_nid, user_id), member_nid)
    return None if stay is None else load_events(cursor, [stay.event_nid]).get(stay.event_nid)

"""May this server say something of this person in this room: the question before anything of it is believed.

Spec: https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls
"""

from __future__ import annotations

from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from homeserver.errors import MatrixError
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.serve.access import PeerAccess


async def find_room(access: PeerAccess, origin: str, room_id: str) -> LiveRoom | None:
    """A room in which this server is, for a server that its ACL lets in; None otherwise."""
    try:
        return await access.room(origin, room_id)
    except MatrixError:
        return None


def speaks_for(origin: str, user_id: str) -> bool:
    """Whether somebody belongs to that server."""
    try:
        return server_of(parse_user_id(user_id)) == origin
    except InvalidIdentifier:
        return False


def speaks_for_member(origin: str, user_id: str, room: LiveRoom) -> bool:
    """Whether somebody belongs to that server, and is in the room; or may be, where not all members are known yet."""
    return room.may_be_joined(user_id) and speaks_for(origin, user_id)

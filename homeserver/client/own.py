"""What many handlers ask first: is this the caller's own, and is it well-formed?"""

from __future__ import annotations

from federation.room.identifiers import EventId, InvalidIdentifier, RoomId, UserId, parse_event_id, parse_room_id
from federation.room.identifiers import parse_user_id as parse_any_user_id
from homeserver.errors import Forbidden, InvalidParam
from homeserver.http.route import Requester
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms


def require_self(who: Requester, user_id: str) -> None:
    """Raises Forbidden where the path names somebody else."""
    if who.user_id != user_id:
        raise Forbidden("That is somebody else's, and nobody but them may use it")


def require_user_id(text: str) -> UserId:
    """Raises InvalidParam."""
    try:
        return parse_any_user_id(text)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{text!r} is not a user id: {error}") from None


def require_room_id(text: str) -> RoomId:
    """Raises InvalidParam."""
    try:
        return parse_room_id(text)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{text!r} is not a room id: {error}") from None


def require_event_id(text: str) -> EventId:
    """Raises InvalidParam."""
    try:
        return parse_event_id(text)
    except InvalidIdentifier as error:
        raise InvalidParam(f"{text!r} is not an event id: {error}") from None


async def require_acquainted(rooms: Rooms, room_id: str, user_id: str) -> LiveRoom:
    """The room, for somebody who is or was in it, is invited or has knocked: people sort such rooms too.

    Raises InvalidParam, or Forbidden for everybody else, whether the room exists or not.
    """
    room = await rooms.require(require_room_id(room_id))
    if room.membership_of(user_id) is None:
        raise Forbidden(NOT_IN_ROOM)
    return room

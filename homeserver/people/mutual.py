"""The rooms that one shares with somebody.

Spec: https://spec.matrix.org/v1.19/client-server-api/#mutual-rooms
"""

from __future__ import annotations

from typing import Any

from federation.room.identifiers import InvalidIdentifier, parse_user_id
from federation.service import service
from homeserver.errors import InvalidParam
from storage import people as rows
from storage.database import Database

AT_ONCE = 100


@service
class MutualRooms:
    """Finds them."""

    database: Database

    async def with_user(self, user_id: str, other: str, token: str | None = None) -> dict[str, Any]:
        """Rooms that both have joined. Raises InvalidParam for an id that is none, one's own, and an unknown token."""
        try:
            other_id = parse_user_id(other, historical=False)
        except InvalidIdentifier as error:
            raise InvalidParam(f"`user_id`: {error}") from None
        if other_id == user_id:
            raise InvalidParam("`user_id` is your own: all your rooms would be the answer")
        found = await self.database.run(rows.shared_rooms, user_id, other_id, _read_token(token), AT_ONCE + 1)
        answer: dict[str, Any] = {"joined": [room_id for _, room_id in found.rooms[:AT_ONCE]], "count": found.count}
        if len(found.rooms) > AT_ONCE:
            answer["next_batch"] = f"r{found.rooms[AT_ONCE - 1][0]}"
        return answer


def _read_token(token: str | None) -> int:
    if not token:
        return 0
    number = token[1:]
    if token[0] != "r" or not number.isascii() or not number.isdigit() or len(number) > 15:
        raise InvalidParam("`from` is not a token of this server")
    return int(number)

"""Telling a friend's server what can't be said in the room of the two, and being told.

`PUT /_matrix/federation/unstable/chat.guildhall/friends/{roomId}/{userId}` `{half}`: somebody of the server that signs
says so of the friendship with the other who is in that room. Told once: a server that is away then does not hear of it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import structlog

from federation.outbound.client import FederationClient, path_to
from federation.outbound.transport import PeerError
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.service import service
from homeserver.errors import Forbidden, InvalidParam
from homeserver.friends.direct import DirectRooms
from homeserver.friends.halves import State
from homeserver.rooms.registry import NOT_IN_ROOM
from homeserver.rooms.serve.access import PeerAccess
from homeserver.tasks import Tasks
from storage import friends as rows
from storage.friends import Word

WORD: Final = "/_matrix/federation/unstable/chat.guildhall/friends/{}/{}"
TIMEOUT_S = 30.0

log = structlog.get_logger("homeserver.friends")


@service
class FriendsServers:
    """The port `homeserver.friends.ports.OtherServers`, filled."""

    client: FederationClient
    tasks: Tasks

    async def tell(self, room_id: str, user_id: str, other_id: str, state: State) -> None:
        server = str(server_of(other_id))
        if server != self.client.server_name:
            self.tasks.spawn("friends.tell", self._tell(server, room_id, user_id, state))

    async def _tell(self, server: str, room_id: str, user_id: str, state: State) -> None:
        path = path_to(WORD, room_id, user_id)
        try:
            await self.client.put(server, path, into=dict[str, Any], body={"half": state}, timeout_s=TIMEOUT_S)
        except PeerError as error:
            log.info("a friend's server was not told", peer=server, why=error.why)


@service
class FriendsHeard:
    """Takes what other servers say of their people."""

    direct: DirectRooms
    access: PeerAccess

    async def hear(self, origin: str, room_id: str, user_id: str, state: State) -> None:
        """Raises InvalidParam, and Forbidden for who is not theirs or not in the room, or not for two."""
        try:
            is_theirs = server_of(parse_user_id(user_id)) == origin
        except InvalidIdentifier as error:
            raise InvalidParam(f"{user_id!r} is not a user id: {error}") from None
        room = await self.access.room(origin, room_id)
        if not is_theirs or room.membership_of(user_id) != "join":
            raise Forbidden(NOT_IN_ROOM)
        pairs = self.direct.pairs
        noted = [one for one in await pairs.database.run(rows.of_room, room_id) if one.other_id == user_id]
        if not noted:
            raise Forbidden("That is no direct room of somebody here with them")
        for one in noted:
            await self.direct.alone(one.user_id, user_id, partial(self._take, one.user_id, user_id, room_id, state))

    async def _take(self, user_id: str, other_id: str, room_id: str, state: State) -> None:
        database = self.direct.pairs.database
        await database.write(rows.put_word, room_id, other_id, Word(state, database.next_position()))
        await self.direct.refresh(user_id, other_id, room_id, other_id)

"""Aliases of other servers: what they stand for, and whom to join through.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory
"""

from __future__ import annotations

from collections.abc import Iterable

from federation.outbound.queries import Queries
from federation.outbound.transport import BadAnswer, PeerError
from federation.room.identifiers import (
    InvalidIdentifier,
    RoomAlias,
    parse_room_alias,
    parse_room_id,
    parse_server_name,
    server_of,
)
from federation.service import service
from federation.wire.queries import DirectoryAnswer
from homeserver.queries.errors import as_matrix_error, is_not_there
from homeserver.rooms.aliases import MOST_SERVERS, ResolvedAlias


@service
class AskedAliases:
    """Implements `homeserver.rooms.aliases.RemoteAliases`."""

    queries: Queries

    async def look_up(self, alias: str) -> ResolvedAlias | None:
        name = parse_room_alias(alias)
        try:
            return _checked(name, await self.queries.alias(name))
        except PeerError as error:
            if is_not_there(error):
                return None
            raise as_matrix_error(error) from None


def _checked(alias: RoomAlias, answer: DirectoryAnswer) -> ResolvedAlias:
    server = server_of(alias)
    try:
        room_id = parse_room_id(answer.room_id)
    except InvalidIdentifier as error:
        raise BadAnswer(server, str(error)) from None
    # The alias' own server comes last where it does not name itself: it need not be in the room, but it may know.
    servers = dict.fromkeys([*_names(answer.servers[:MOST_SERVERS]), server])
    return ResolvedAlias(room_id, list(servers))


def _names(servers: Iterable[str]) -> Iterable[str]:
    for name in servers:
        try:
            yield parse_server_name(name)
        except InvalidIdentifier:
            continue

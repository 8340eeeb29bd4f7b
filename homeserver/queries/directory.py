"""Directories of other servers.

Spec: https://spec.matrix.org/v1.19/server-server-api/#published-room-directory
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.outbound.queries import Queries
from federation.outbound.transport import PeerError
from federation.room.identifiers import InvalidIdentifier, parse_room_id
from federation.service import service
from federation.wire.queries import ListedRoom, RoomsAsk, RoomsFilter
from homeserver.queries.errors import as_matrix_error
from homeserver.rooms.directory import DEFAULT_LIMIT, MOST_ROOMS, ListAsk, Listing


@service
class AskedDirectory:
    """Implements `homeserver.rooms.directory.RemoteDirectory`."""

    queries: Queries

    async def list(self, server_name: str, ask: ListAsk) -> dict[str, Any]:
        limit = min(ask.limit or DEFAULT_LIMIT, MOST_ROOMS)
        try:
            answer = await self.queries.public_rooms(server_name, _wanted(ask, limit))
        except PeerError as error:
            raise as_matrix_error(error) from None
        rooms = [msgspec.to_builtins(room) for room in answer.rooms() if _is_room(room)]
        # A server that keeps no count has shown at least this many.
        total = answer.total_room_count_estimate
        return Listing(
            rooms[:MOST_ROOMS],
            len(rooms) if total is None else total,
            prev=answer.prev_batch or None,
            next=answer.next_batch or None,
        ).to_json()


def _wanted(ask: ListAsk, limit: int) -> RoomsAsk:
    filter = None
    if ask.term or ask.room_types is not None:
        filter = RoomsFilter(ask.term or None, None if ask.room_types is None else [*ask.room_types])
    return RoomsAsk(limit, ask.since, filter, ask.all_networks, ask.network)


def _is_room(room: ListedRoom) -> bool:
    try:
        parse_room_id(room.room_id)
    except InvalidIdentifier:
        return False
    return True

"""`/_matrix/federation/v1/publicRooms`: this server's directory of published rooms, for other servers.

Spec: https://spec.matrix.org/v1.19/server-server-api/#published-room-directory
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.inbound.x_matrix import Origin
from homeserver.http.route import FEDERATION, route
from homeserver.rooms.directory import Directory, ListAsk


class PublicRooms(msgspec.Struct, frozen=True):
    limit: int | None = None
    since: str | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


class RoomsFilter(msgspec.Struct, frozen=True):
    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class SearchPublicRooms(msgspec.Struct, frozen=True):
    limit: int | None = None
    since: str | None = None
    filter: RoomsFilter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


@route(
    "GET",
    "/_matrix/federation/v1/publicRooms",
    auth=FEDERATION,
    rate="federation",
    query=("limit", "since", "include_all_networks", "third_party_instance_id"),
)
async def list_public_rooms(directory: Directory, who: Origin, ask: PublicRooms) -> dict[str, Any]:
    return await directory.list(_wanted(ask, RoomsFilter()))


@route("POST", "/_matrix/federation/v1/publicRooms", auth=FEDERATION, rate="federation", interruptible=True)
async def search_public_rooms(directory: Directory, who: Origin, ask: SearchPublicRooms) -> dict[str, Any]:
    return await directory.list(_wanted(ask, ask.filter or RoomsFilter()))


def _wanted(ask: PublicRooms | SearchPublicRooms, filter: RoomsFilter) -> ListAsk:
    return ListAsk(
        limit=ask.limit,
        since=ask.since or None,
        term=filter.generic_search_term,
        room_types=filter.room_types,
        # An empty name comes from servers that write down what they do not mean.
        network=None if ask.include_all_networks else ask.third_party_instance_id or None,
        all_networks=ask.include_all_networks,
    )

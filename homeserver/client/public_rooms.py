"""`/_matrix/client/v3/publicRooms`: list and search the directory of published rooms.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.route import GUEST, NONE, Requester, route
from homeserver.rooms.directory import Directory, ListAsk


class PublicRooms(msgspec.Struct, frozen=True):
    limit: int | None = None
    since: str | None = None
    server: str | None = None


class RoomsFilter(msgspec.Struct, frozen=True):
    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class SearchPublicRooms(msgspec.Struct, frozen=True):
    server: str | None = None
    limit: int | None = None
    since: str | None = None
    filter: RoomsFilter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


@route("GET", "/_matrix/client/v3/publicRooms", auth=NONE, rate="directory", query=("limit", "since", "server"))
async def list_public_rooms(directory: Directory, ask: PublicRooms) -> dict[str, Any]:
    return await directory.list(ListAsk(ask.limit, ask.since), ask.server)


@route("POST", "/_matrix/client/v3/publicRooms", auth=GUEST, rate="directory", query=("server",), interruptible=True)
async def search_public_rooms(directory: Directory, who: Requester, ask: SearchPublicRooms) -> dict[str, Any]:
    filter = ask.filter or RoomsFilter()
    wanted = ListAsk(
        limit=ask.limit,
        since=ask.since,
        term=filter.generic_search_term,
        room_types=filter.room_types,
        network=None if ask.include_all_networks else ask.third_party_instance_id,
        all_networks=ask.include_all_networks,
    )
    return await directory.list(wanted, ask.server)

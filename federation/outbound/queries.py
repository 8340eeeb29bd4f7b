"""What is asked of other servers by name: profiles, aliases, directories of rooms, and spaces.

Every call raises `PeerError`.

Spec: https://spec.matrix.org/v1.19/server-server-api/#querying-for-information
Spec: https://spec.matrix.org/v1.19/server-server-api/#published-room-directory
Spec: https://spec.matrix.org/v1.19/server-server-api/#spaces
"""

from __future__ import annotations

from typing import Any

from federation.outbound.client import FederationClient, path_to
from federation.outbound.patience import Patience
from federation.room.identifiers import RoomAlias, UserId, server_of
from federation.service import service
from federation.wire.queries import DirectoryAnswer, RoomsAnswer, RoomsAsk
from federation.wire.spaces import HierarchyAnswer

V1 = "/_matrix/federation/v1"

TIMEOUT_S = 20.0
"""Somebody waits for the answer."""
MAX_PROFILE_BYTES = 128 * 1024
"""A profile has 64 KiB, which escapes may make longer."""
MAX_ALIAS_BYTES = 64 * 1024
MAX_ROOMS_BYTES = 4 * 1024 * 1024


@service
class Queries:
    """Asks other servers."""

    client: FederationClient
    patience: Patience

    async def profile(self, user_id: UserId) -> dict[str, Any]:
        """All fields of somebody's profile, as their server tells them: any JSON."""
        server = server_of(user_id)
        path = path_to(V1 + "/query/profile", query=[("user_id", user_id)])

        async def ask() -> dict[str, Any]:
            return await self.client.get(
                server, path, into=dict[str, Any], timeout_s=TIMEOUT_S, max_bytes=MAX_PROFILE_BYTES
            )

        return await self.patience.ask(server, ask)

    async def alias(self, alias: RoomAlias) -> DirectoryAnswer:
        """What an alias stands for, as its server tells it."""
        server = server_of(alias)
        path = path_to(V1 + "/query/directory", query=[("room_alias", alias)])

        async def ask() -> DirectoryAnswer:
            return await self.client.get(
                server, path, into=DirectoryAnswer, timeout_s=TIMEOUT_S, max_bytes=MAX_ALIAS_BYTES
            )

        return await self.patience.ask(server, ask)

    async def public_rooms(self, server: str, wanted: RoomsAsk) -> RoomsAnswer:
        """One page of a server's directory."""

        async def ask() -> RoomsAnswer:
            if wanted.filter is not None:
                return await self.client.post(
                    server,
                    V1 + "/publicRooms",
                    into=RoomsAnswer,
                    body=wanted.to_json(),
                    timeout_s=TIMEOUT_S,
                    max_bytes=MAX_ROOMS_BYTES,
                )
            return await self.client.get(
                server,
                path_to(V1 + "/publicRooms", query=[(name, _text(one)) for name, one in wanted.to_json().items()]),
                into=RoomsAnswer,
                timeout_s=TIMEOUT_S,
                max_bytes=MAX_ROOMS_BYTES,
            )

        return await self.patience.ask(server, ask)

    async def hierarchy(self, server: str, room_id: str, suggested_only: bool) -> HierarchyAnswer:
        """A room, and if it is a space what is directly below it."""
        path = path_to(V1 + "/hierarchy/{}", room_id, query=[("suggested_only", "true" if suggested_only else "false")])

        async def ask() -> HierarchyAnswer:
            return await self.client.get(
                server, path, into=HierarchyAnswer, timeout_s=TIMEOUT_S, max_bytes=MAX_ROOMS_BYTES
            )

        return await self.patience.ask(server, ask)


def _text(value: object) -> str:
    return "true" if value is True else str(value)

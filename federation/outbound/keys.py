"""Asking other servers for the devices and keys of their people. Every call raises `PeerError`.

Spec: https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from federation.outbound.client import FederationClient, path_to
from federation.outbound.patience import Patience
from federation.room.identifiers import UserId, server_of
from federation.service import service
from federation.wire.keys import ClaimedKeys, QueriedKeys, UserDevices

V1 = "/_matrix/federation/v1"
TIMEOUT_S = 20.0
MAX_DEVICES_BYTES = 4 * 1024 * 1024
MAX_KEYS_BYTES = 16 * 1024 * 1024


@service
class KeyRequests:
    """Asks."""

    client: FederationClient
    patience: Patience

    async def devices(self, user_id: UserId, *, insist: bool = False) -> UserDevices:
        """Somebody's whole list of devices. Who has pauses of their own insists on asking."""
        server = server_of(user_id)

        async def ask() -> UserDevices:
            return await self.client.get(
                server,
                path_to(V1 + "/user/devices/{}", user_id),
                into=UserDevices,
                timeout_s=TIMEOUT_S,
                max_bytes=MAX_DEVICES_BYTES,
            )

        return await (ask() if insist else self.patience.ask(server, ask))

    async def query(self, server: str, asked: Mapping[str, Sequence[str]], timeout_s: float) -> QueriedKeys:
        """The keys of people of a server: user id → device ids, none for all."""

        async def ask() -> QueriedKeys:
            return await self.client.post(
                server,
                V1 + "/user/keys/query",
                into=QueriedKeys,
                body={"device_keys": {user_id: list(devices) for user_id, devices in asked.items()}},
                timeout_s=timeout_s,
                max_bytes=MAX_KEYS_BYTES,
            )

        return await self.patience.ask(server, ask)

    async def claim(self, server: str, wanted: Mapping[str, Mapping[str, str]], timeout_s: float) -> ClaimedKeys:
        """One-time keys of devices of a server: user id → device id → algorithm."""

        async def ask() -> ClaimedKeys:
            return await self.client.post(
                server,
                V1 + "/user/keys/claim",
                into=ClaimedKeys,
                body={"one_time_keys": {user_id: dict(devices) for user_id, devices in wanted.items()}},
                timeout_s=timeout_s,
                max_bytes=MAX_KEYS_BYTES,
            )

        return await self.patience.ask(server, ask)

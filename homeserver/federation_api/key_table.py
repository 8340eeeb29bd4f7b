"""The key ring's memory in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from federation.keys.ports import KeptResponse, KeyName, OwnKey
from federation.keys.response import KeyResponse, ServerKey
from federation.service import service
from storage import server_keys
from storage.database import Database


@service
class KeyTable:
    """Implements `federation.keys.ports.KeyStore`."""

    _database: Database

    async def read(self, wanted: Collection[KeyName]) -> Mapping[KeyName, ServerKey]:
        return await self._database.run(server_keys.read, wanted)

    async def save(self, response: KeyResponse, *, direct: bool) -> None:
        await self._database.write(server_keys.save, response, direct=direct)

    async def responses(self, server_name: str) -> Sequence[KeptResponse]:
        return await self._database.run(server_keys.responses, server_name)

    async def update_own(self, in_use: Sequence[OwnKey], now_ms: int) -> Sequence[OwnKey]:
        return await self._database.write(server_keys.update_own, in_use, now_ms)

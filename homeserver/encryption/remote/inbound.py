"""What other servers tell of their people's devices and keys, and the letters that they bring.

Each is an `homeserver.rooms.serve.edus.EduHandler`: it checks who may say what. What is malformed or not the peer's to
say is dropped without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.service import service
from federation.wire.edus import read
from federation.wire.keys import DeviceListUpdate, DirectToDevice, SigningKeyUpdate
from homeserver.encryption.letters import Letterbox
from homeserver.encryption.lists import DeviceLists
from homeserver.encryption.remote.keeping import apply_signing_update, apply_update
from homeserver.encryption.remote.known import KnownLists
from homeserver.encryption.remote.resync import Resyncs
from storage.ports import Cursor


@service
class DeviceUpdatesThere:
    """`m.device_list_update`

    Spec: https://spec.matrix.org/v1.19/server-server-api/#definition-mdevice_list_update
    """

    known: KnownLists
    lists: DeviceLists
    resyncs: Resyncs

    async def __call__(self, origin: str, content: Mapping[str, Any]) -> None:
        update = read(content, DeviceListUpdate)
        if update is None or not _speaks_for(origin, update.user_id):
            return
        if not await self.known.acquainted([update.user_id]):
            return
        is_missed = False

        def work(cursor: Cursor, position: int) -> bool:
            nonlocal is_missed
            is_seen, is_missed = apply_update(cursor, update)
            return is_seen

        await self.lists.write_remote(update.user_id, work)
        if is_missed:
            self.resyncs.want(update.user_id)


@service
class SigningKeysThere:
    """`m.signing_key_update`

    Spec: https://spec.matrix.org/v1.19/server-server-api/#definition-msigning_key_update
    """

    known: KnownLists
    lists: DeviceLists

    async def __call__(self, origin: str, content: Mapping[str, Any]) -> None:
        update = read(content, SigningKeyUpdate)
        if update is None or not _speaks_for(origin, update.user_id):
            return
        if await self.known.acquainted([update.user_id]):
            await self.lists.write_remote(update.user_id, lambda cursor, position: apply_signing_update(cursor, update))


@service
class LettersThere:
    """`m.direct_to_device`

    Spec: https://spec.matrix.org/v1.19/server-server-api/#definition-mdirect_to_device
    """

    letterbox: Letterbox

    async def __call__(self, origin: str, content: Mapping[str, Any]) -> None:
        letter = read(content, DirectToDevice)
        if letter is not None and _speaks_for(origin, letter.sender):
            await self.letterbox.receive(origin, letter.sender, letter.type, letter.message_id, letter.messages)


def _speaks_for(origin: str, user_id: str) -> bool:
    try:
        return server_of(parse_user_id(user_id)) == origin
    except InvalidIdentifier:
        return False

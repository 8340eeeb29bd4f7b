"""Answers to other servers about people here.

Spec: https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption
Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid
"""

from __future__ import annotations

from typing import Any

from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.service import service
from homeserver.encryption.claims import Claimed, KeyClaims, Wanted
from homeserver.encryption.queries import MOST_PEOPLE, Answer, Asked, read_answer
from homeserver.encryption.rendering import read_public_keys
from homeserver.errors import InvalidParam, NotFound
from storage import accounts as account_rows
from storage import device_lists as rows
from storage.database import Database
from storage.device_keys import MASTER, SELF_SIGNING
from storage.ports import Cursor


@service
class ServedKeys:
    """Answers."""

    database: Database
    claims: KeyClaims
    server_name: str
    shows_names: bool
    """Whether other servers are told what people call their devices."""

    async def devices(self, user_id: str) -> dict[str, Any]:
        """Somebody's whole list. Raises InvalidParam or NotFound."""
        self._require_own([user_id])
        return await self.database.run(_devices, user_id, self.shows_names)

    async def query(self, asked: Asked) -> Answer:
        """The keys of some people. Raises InvalidParam."""
        self._require_own(list(asked))
        return await self.database.run(read_answer, asked, None, show_names=self.shows_names)

    async def claim(self, wanted: Wanted) -> Claimed:
        """One-time keys. Raises InvalidParam."""
        self._require_own(list(wanted))
        return await self.claims.claim(wanted)

    def _require_own(self, user_ids: list[str]) -> None:
        if len(user_ids) > MOST_PEOPLE:
            raise InvalidParam(f"There are more than {MOST_PEOPLE} people in the request")
        for user_id in user_ids:
            try:
                is_own = server_of(parse_user_id(user_id)) == self.server_name
            except InvalidIdentifier as error:
                raise InvalidParam(str(error)) from None
            if not is_own:
                raise InvalidParam(f"{user_id} is of another server")


def _devices(cursor: Cursor, user_id: str, shows_names: bool) -> dict[str, Any]:
    if not account_rows.existing(cursor, [user_id]):
        raise NotFound("There is nobody of that name")
    last = rows.last_update(cursor, user_id)
    public = read_public_keys(cursor, [user_id], None)
    devices = []
    for keys in public.devices.get(user_id, ()):
        device: dict[str, Any] = {"device_id": keys.device_id, "keys": public.device_keys(keys)}
        if shows_names and keys.display_name is not None:
            device["device_display_name"] = keys.display_name
        devices.append(device)
    answer: dict[str, Any] = {
        "user_id": user_id,
        "stream_id": 0 if last is None else last.stream_id,
        "devices": devices,
    }
    for name, usage in (("master_key", MASTER), ("self_signing_key", SELF_SIGNING)):
        if (key := public.key(user_id, usage)) is not None:
            answer[name] = key
    return answer

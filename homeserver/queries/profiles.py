"""Profiles of other servers' people, remembered for a moment: a client that opens a room asks for many at once.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson
from attrs import define, field

from federation.bounded import Bounded
from federation.flight import SingleFlight
from federation.outbound.queries import Queries
from federation.outbound.transport import PeerError
from federation.room.canonical import BadJson, check_depth
from federation.room.identifiers import InvalidIdentifier, UserId, parse_user_id, server_of
from homeserver.queries.errors import as_matrix_error, is_not_there
from homeserver.userdata.profiles import MAX_KEY_BYTES, is_value

REMEMBERED_MS = 15_000
MOST_REMEMBERED = 2_000
MOST_BYTES_EACH = 4 * 1024
"""Larger profiles are asked for again each time."""


class _Kept(msgspec.Struct, frozen=True):
    until_ms: int
    json: bytes | None
    """None: the other server says that there is none."""


@define(eq=False)
class AskedProfiles:
    """Implements `homeserver.userdata.profiles.RemoteProfiles`."""

    _server_name: str
    _queries: Queries
    _now_ms: Callable[[], int]
    _kept: Bounded[str, _Kept] = field(factory=lambda: Bounded(MOST_REMEMBERED), init=False)
    _asking: SingleFlight[str, bytes | None] = field(factory=SingleFlight, init=False)

    async def get(self, user_id: str) -> dict[str, Any] | None:
        try:
            name = parse_user_id(user_id, historical=False)
        except InvalidIdentifier:
            return None
        if server_of(name) == self._server_name:
            return None
        kept = self._kept.get(name)
        if kept is not None and self._now_ms() < kept.until_ms:
            json = kept.json
        else:
            json = await self._asking.do(name, lambda: self._ask(name))
        if json is None:
            return None
        fields: dict[str, Any] = orjson.loads(json)
        return fields

    async def _ask(self, user_id: UserId) -> bytes | None:
        try:
            json: bytes | None = orjson.dumps(_presentable(await self._queries.profile(user_id)))
        except PeerError as error:
            if not is_not_there(error):
                raise as_matrix_error(error) from None
            json = None
        if json is None or len(json) <= MOST_BYTES_EACH:
            self._kept.put(user_id, _Kept(self._now_ms() + REMEMBERED_MS, json))
        return json


def _presentable(fields: Mapping[str, Any]) -> dict[str, orjson.Fragment]:
    """What of a profile our clients may be shown: fields that are set, and hold what such fields may hold."""
    found = {}
    for key, value in fields.items():
        if value is None or len(key.encode()) > MAX_KEY_BYTES or not is_value(key, value):
            continue
        try:
            check_depth(value)
            found[key] = orjson.Fragment(orjson.dumps(value))
        except (BadJson, TypeError):
            continue  # what is nested too deeply, and integers past 64 bits
    return found

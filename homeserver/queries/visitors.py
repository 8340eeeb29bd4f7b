"""People of other servers who use calls of this one, with an OpenID token of theirs: their server says who they are.

    Authorization: MatrixOpenID TOKEN SERVER ──> asked lately? ──no──> SERVER: GET …/openid/userinfo

Spec: https://spec.matrix.org/v1.19/server-server-api/#openid
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from attrs import define, field

from federation.bounded import Bounded
from federation.flight import SingleFlight
from federation.outbound.client import FederationClient, path_to
from federation.outbound.patience import Patience
from federation.outbound.transport import PeerError, Refused
from federation.room.identifiers import InvalidIdentifier, parse_server_name, parse_user_id, server_of
from homeserver.errors import UnknownToken
from homeserver.http.authenticate import MAX_TOKEN, hash_token
from homeserver.http.route import Requester
from homeserver.queries.errors import as_matrix_error

REMEMBERED_MS: Final = 60_000
"""How long an answer holds: a token may be taken back meanwhile."""
MOST_REMEMBERED: Final = 5_000
TIMEOUT_S = 20.0
MOST_BYTES = 16 * 1024


class _UserInfo(msgspec.Struct, frozen=True):
    sub: str


class _Known(msgspec.Struct, frozen=True):
    user_id: str
    until_ms: int


@define(eq=False)
class Visitors:
    """A `homeserver.http.authenticate.VisitorGate`."""

    _server_name: str
    _client: FederationClient
    _patience: Patience
    _now_ms: Callable[[], int]
    _known: Bounded[tuple[str, bytes], _Known] = field(factory=lambda: Bounded(MOST_REMEMBERED), init=False)
    _asking: SingleFlight[tuple[str, bytes], str] = field(factory=SingleFlight, init=False)

    async def __call__(self, token: str, server: str) -> Requester:
        try:
            name = parse_server_name(server)
        except InvalidIdentifier:
            raise UnknownToken("Not the name of a server") from None
        if name == self._server_name:
            raise UnknownToken("People of this server have access tokens for that")
        if not 0 < len(token) <= MAX_TOKEN:
            raise UnknownToken()
        key = (str(name), hash_token(token))
        known = self._known.get(key)
        if known is not None and self._now_ms() < known.until_ms:
            return Requester(known.user_id, "", key[1])
        user_id = await self._asking.do(key, lambda: self._ask(str(name), token))
        self._known.put(key, _Known(user_id, self._now_ms() + REMEMBERED_MS))
        return Requester(user_id, "", key[1])

    async def _ask(self, server: str, token: str) -> str:
        path = path_to("/_matrix/federation/v1/openid/userinfo", query=[("access_token", token)])

        async def ask() -> _UserInfo:
            return await self._client.get(
                server, path, into=_UserInfo, timeout_s=TIMEOUT_S, max_bytes=MOST_BYTES, signed=False
            )

        try:
            found = await self._patience.ask(server, ask)
        except Refused as error:
            if error.status in (401, 403, 404):
                raise UnknownToken(f"{server} does not know the token") from None
            raise as_matrix_error(error) from None
        except PeerError as error:
            raise as_matrix_error(error) from None
        try:
            user_id = parse_user_id(found.sub)
        except InvalidIdentifier:
            raise UnknownToken(f"{server} names nobody") from None
        if server_of(user_id) != server:
            raise UnknownToken(f"{server} names somebody of another server")
        return str(user_id)

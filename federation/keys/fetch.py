"""Getting other servers' keys over the network: from themselves, and from notaries.

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from federation.keys.response import MAX_RESPONSE, BadKeyResponse, KeyResponse, read_key_response, signed_by
from federation.outbound.client import FederationClient
from federation.outbound.transport import BadAnswer
from federation.room.canonical import BadJson, parse_json
from federation.room.signing import verify_signed_json
from federation.service import service

OWN_PATH = "/_matrix/key/v2/server"
QUERY_PATH = "/_matrix/key/v2/query"
DIRECT_TIMEOUT_S = 15.0
NOTARY_TIMEOUT_S = 30.0
"""A notary may have to ask the servers first."""


@service
class RemoteKeys:
    """Implements `KeyFetcher`. Requests for keys are not signed: the peer would need our keys to check that."""

    _client: FederationClient
    _now_ms: Callable[[], int]

    async def fetch(self, server_name: str) -> KeyResponse:
        response = await self._client.request(
            "GET", server_name, OWN_PATH, timeout_s=DIRECT_TIMEOUT_S, max_bytes=MAX_RESPONSE, signed=False
        )
        try:
            return read_key_response(parse_json(response.body, exact=True), server_name, self._now_ms())
        except (BadJson, BadKeyResponse) as error:
            raise BadAnswer(server_name, f"its keys cannot be believed: {error}") from None

    async def ask_notary(
        self, notary: str, wanted: Mapping[str, Mapping[str, int]], notary_keys: Mapping[str, bytes]
    ) -> Sequence[KeyResponse]:
        body = {
            "server_keys": {
                server: {key_id: {"minimum_valid_until_ts": minimum} for key_id, minimum in sorted(keys.items())}
                for server, keys in sorted(wanted.items())
            }
        }
        # It may answer with several responses of one server, for keys of different times.
        limit = MAX_RESPONSE * (1 + 2 * len(wanted))
        response = await self._client.request(
            "POST", notary, QUERY_PATH, body=body, timeout_s=NOTARY_TIMEOUT_S, max_bytes=limit, signed=False
        )
        try:
            answer = parse_json(response.body, exact=True)
        except BadJson as error:
            raise BadAnswer(notary, str(error)) from None
        given = answer.get("server_keys") if isinstance(answer, dict) else None
        if not isinstance(given, list):
            raise BadAnswer(notary, "its answer has no list of server_keys")
        vouched = [value for value in given if isinstance(value, dict) and is_vouched(value, notary, notary_keys)]
        return [keys for value in vouched if (keys := self._read(value, wanted)) is not None]

    def _read(self, value: Mapping[str, Any], wanted: Mapping[str, Mapping[str, int]]) -> KeyResponse | None:
        server_name = value.get("server_name")
        if not isinstance(server_name, str) or server_name not in wanted:
            return None
        try:
            return read_key_response(value, server_name, self._now_ms())
        except BadKeyResponse:
            return None


def is_vouched(value: Mapping[str, Any], notary: str, notary_keys: Mapping[str, bytes]) -> bool:
    """Whether the notary has signed this, by one of its keys."""
    return any(
        verify_signed_json(value, notary, key_id, notary_keys[key_id])
        for key_id in signed_by(value, notary)
        if key_id in notary_keys
    )

"""Who sends a request: the server whose signature it carries.

Spec: https://spec.matrix.org/v1.19/server-server-api/#request-authentication
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from federation.keys.keyring import KeyUnavailable
from federation.keys.response import is_key_id
from federation.room.canonical import BadJson, canonical_json_loose, parse_json
from federation.room.identifiers import ServerName
from federation.room.signing import verify_signature
from federation.wire.x_matrix import BadHeader, read_header, signed_request


class Unauthorised(Exception):
    """The request does not carry a valid signature of the server that it says it is from."""


@frozen
class Origin:
    """The server behind a request."""

    server_name: ServerName


class KeySource(Protocol):
    async def verify_key(self, server_name: str, key_id: str, minimum_valid_until_ts: int) -> bytes:
        """Raises `KeyUnavailable`."""


@frozen
class XMatrix:
    """Verifies requests to this server."""

    server_name: str
    _keys: KeySource
    _now_ms: Callable[[], int]

    async def verify(self, method: str, uri: bytes, authorization: str, body: bytes) -> Origin:
        """Find out who signed a request. `uri` is the path with the query as it came. Raises `Unauthorised`."""
        try:
            claimed = read_header(authorization)
        except BadHeader as error:
            raise Unauthorised(str(error)) from None
        if claimed.destination is not None and claimed.destination != self.server_name:
            raise Unauthorised(f"the request is meant for {claimed.destination}, and this is {self.server_name}")
        if not is_key_id(claimed.key_id):
            raise Unauthorised("the request is signed by a key of an algorithm that is not known here")
        if not uri.isascii():
            raise Unauthorised("the path of a signed request must be ASCII")
        try:
            key = await self._keys.verify_key(claimed.origin, claimed.key_id, self._now_ms())
        except KeyUnavailable as error:
            raise Unauthorised(str(error)) from None
        target = uri.decode("ascii")

        def is_signed(content: bytes | None) -> bool:
            message = signed_request(method, target, claimed.origin, claimed.destination, content)
            return verify_signature(message, claimed.signature, key)

        # Most servers send the body as the canonical JSON that they signed, and then it need not be parsed here. What
        # is signed has one reading only: strings in JSON hold no bare quotes, so read from its end it falls into the
        # same parts whatever the body is.
        if is_signed(body or None) or (body and is_signed(_canonical(body))):
            return Origin(claimed.origin)
        raise Unauthorised(f"the signature by {claimed.key_id} of {claimed.origin} is wrong")


def _canonical(body: bytes) -> bytes:
    try:
        return canonical_json_loose(parse_json(body, exact=True))
    except BadJson as error:
        raise Unauthorised(f"the body cannot have been signed: {error}") from None

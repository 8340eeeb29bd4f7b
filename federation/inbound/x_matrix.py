"""Who sends a request: the server whose signature it carries.

Spec: https://spec.matrix.org/v1.19/server-server-api/#request-authentication
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import orjson
from attrs import frozen

from federation.keys.keyring import KeyUnavailable
from federation.keys.response import is_key_id
from federation.room.canonical import BadJson, canonical_json_loose, parse_json
from federation.room.identifiers import ServerName
from federation.room.signing import verify_signature
from federation.service import service
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


@service
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
        for content in _readings(body):
            message = signed_request(method, target, claimed.origin, claimed.destination, content)
            if verify_signature(message, claimed.signature, key):
                return Origin(claimed.origin)
        raise Unauthorised(f"the signature by {claimed.key_id} of {claimed.origin} is wrong")


def _readings(body: bytes) -> Iterator[bytes | None]:
    """The canonical JSON that a body may stand for, what costs least first; None for no body.

    Most servers send the very bytes that they signed, and then nothing need be parsed here. That is safe, as what is
    signed has one reading only: strings in JSON hold no bare quotes, so read from its end it falls into the same parts
    whatever the body is. Others send the same in another form, which the quick parser reads unless there are numbers
    in it that no room version since 6 has.
    """
    if not body:
        yield None
        return
    yield body
    try:
        quick = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
        if quick != body:
            yield quick
        exact = canonical_json_loose(parse_json(body, exact=True))
    except (BadJson, ValueError, TypeError, RecursionError) as error:
        raise Unauthorised(f"the body cannot have been signed: {error}") from None
    if exact != quick:
        yield exact

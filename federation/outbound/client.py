"""Asking other servers: requests signed in this server's name, answers read into the shapes they should have.

    client = FederationClient("example.org", key, transport)
    version = await client.get("peer.example", "/_matrix/federation/v1/version", into=Version)
    await client.put("peer.example", path_to("/_matrix/federation/v1/send/{}", txn_id), into=dict, body={...})

Every call raises `PeerError`: see `federation.outbound.transport` for its kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from federation.outbound.transport import MAX_BYTES, TIMEOUT_S, BadAnswer, Refused, Request, Response, Sink, Transport
from federation.outbound.web import REDIRECTS
from federation.room.canonical import canonical_json
from federation.room.hashing import encode_base64
from federation.room.identifiers import ServerName
from federation.room.signing import SigningKey
from federation.service import service
from federation.wire.errors import read_error
from federation.wire.x_matrix import Credentials, signed_request, write_header

T = TypeVar("T")

Query = Iterable[tuple[str, str]]


def path_to(template: str, *parts: str, query: Query = ()) -> str:
    """A path from a template with `{}` for each part, percent-encoded, with the query behind it."""
    path = template.format(*(quote(part, safe="") for part in parts))
    text = urlencode(list(query), quote_via=quote, safe="")
    return f"{path}?{text}" if text else path


@service
class FederationClient:
    """Speaks to other servers as this one."""

    server_name: str
    key: SigningKey
    transport: Transport
    timeout_s: float = TIMEOUT_S
    """For requests whose caller knows no better."""

    async def get(
        self,
        destination: str,
        path: str,
        *,
        into: type[T],
        timeout_s: float | None = None,
        max_bytes: int = MAX_BYTES,
        signed: bool = True,
    ) -> T:
        """The answer to a GET. `path` comes from `path_to`."""
        response = await self.request("GET", destination, path, timeout_s=timeout_s, max_bytes=max_bytes, signed=signed)
        return read_answer(destination, response, into)

    async def put(
        self,
        destination: str,
        path: str,
        *,
        into: type[T],
        body: object,
        timeout_s: float | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> T:
        """The answer to a PUT. It may be sent a second time where a connection breaks, so it must not matter."""
        response = await self.request("PUT", destination, path, body=body, timeout_s=timeout_s, max_bytes=max_bytes)
        return read_answer(destination, response, into)

    async def post(
        self,
        destination: str,
        path: str,
        *,
        into: type[T],
        body: object,
        timeout_s: float | None = None,
        max_bytes: int = MAX_BYTES,
        signed: bool = True,
    ) -> T:
        """The answer to a POST."""
        response = await self.request(
            "POST", destination, path, body=body, timeout_s=timeout_s, max_bytes=max_bytes, signed=signed
        )
        return read_answer(destination, response, into)

    async def download(
        self,
        destination: str,
        path: str,
        sink: Sink,
        *,
        max_bytes: int,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The answer to a GET whose body, up to `max_bytes`, goes to `sink`; or one that redirects, as it came.

        `headers` are sent along: for a part of it, say. Raises what the sink raises, too.
        """
        headers = {**(headers or {}), "Authorization": self.authorization("GET", destination, path, None)}
        patience_s = self.timeout_s if timeout_s is None else timeout_s
        response = await self.transport.send(
            Request(destination, "GET", path, headers, None, patience_s, max_bytes, sink)
        )
        if not 200 <= response.status < 300 and response.status not in REDIRECTS:
            raise _refusal(destination, response)
        return response

    async def request(
        self,
        method: str,
        destination: str,
        path: str,
        *,
        body: object = None,
        timeout_s: float | None = None,
        max_bytes: int = MAX_BYTES,
        signed: bool = True,
    ) -> Response:
        """The answer, which is one of success, as it came. `body` is a JSON value, or canonical JSON as `bytes`."""
        content = body if isinstance(body, bytes) or body is None else canonical_json(body)
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if signed:
            headers["Authorization"] = self.authorization(method, destination, path, content)
        patience_s = self.timeout_s if timeout_s is None else timeout_s
        response = await self.transport.send(
            Request(destination, method, path, headers, content, patience_s, max_bytes)
        )
        if not 200 <= response.status < 300:
            raise _refusal(destination, response)
        return response

    def authorization(self, method: str, destination: str, path: str, content: bytes | None) -> str:
        """The `Authorization` header of a request with this body, which is canonical JSON."""
        signature = self.key.sign(signed_request(method, path, self.server_name, destination, content))
        return write_header(
            Credentials(ServerName(self.server_name), self.key.key_id, encode_base64(signature), destination)
        )


def read_answer(destination: str, response: Response, into: type[T]) -> T:
    """The JSON of an answer in the shape that it should have. Raises `BadAnswer`."""
    try:
        return msgspec.json.decode(response.body, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(destination, f"not what it should be: {error}") from None


def _refusal(destination: str, response: Response) -> Refused:
    error = read_error(response.body, response.headers.get("retry-after"))
    return Refused(
        destination,
        response.status,
        error.errcode,
        error.error,
        error.retry_after_ms,
        harms=error.harms,
        expiry=error.expiry,
        room_version=error.room_version,
    )

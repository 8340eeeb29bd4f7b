"""From a handler's result, or from what went wrong, to the bytes of an HTTP answer: made once, written once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from time import gmtime, strftime
from typing import Any

import msgspec
import orjson

from homeserver.errors import LimitExceeded, MatrixError
from homeserver.http.bodies import Source
from homeserver.http.route import Reply

CORS: Mapping[str, str] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
    "Access-Control-Expose-Headers": "Retry-After",
}
"""On every answer, errors too. Spec: https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients"""

DEFAULTS: Mapping[str, str] = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    **CORS,
}
"""What a handler's own headers may replace."""

NO_HEADERS: Mapping[str, str] = {}

_encode_struct = msgspec.json.Encoder(
    enc_hook=lambda value: msgspec.Raw(orjson.dumps(value, default=_reduce, option=orjson.OPT_NON_STR_KEYS))
).encode


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer before it is bytes: see `to_bytes`."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS
    source: Source | None = None
    """Where the body comes from instead, if it is too long to stand in memory."""


def answer_of(result: Any) -> Answer:
    """What a handler's result is as an answer. Raises `TypeError` for what cannot be JSON."""
    if type(result) is Reply:
        body = result.body
        if result.source is not None:
            return Answer(result.status, b"", result.headers, result.source)
        return Answer(result.status, body if type(body) is bytes else encode_json(body), result.headers)
    return Answer(200, b"{}" if result is None else encode_json(result))


def answer_of_error(error: MatrixError) -> Answer:
    """An error as the specification writes it; `more` may add members or replace them."""
    body = {"errcode": error.errcode, "error": error.error, **error.more} if error.errcode else error.more
    headers = dict(error.headers)
    if isinstance(error, LimitExceeded):
        headers["Retry-After"] = str(max(1, -(-error.retry_after_ms // 1000)))
    return Answer(error.status, encode_json(body), headers)


def encode_json(value: Any) -> bytes:
    """JSON of what handlers give: dicts, lists, Structs, `orjson.Fragment`s of ready bytes, nested as they like."""
    if isinstance(value, msgspec.Struct):
        return _encode_struct(value)
    return orjson.dumps({} if value is None else value, default=_reduce)


def to_bytes(answer: Answer, *, date: bytes, close: bool = False, head: bool = False, chunked: bool = False) -> bytes:
    """The whole answer as it goes over the wire, but for what is read from a source. With `head`, without the body.

    `chunked`: a source that does not know its length comes in chunks; else it ends with the connection.
    """
    body = answer.body
    length = len(body) if answer.source is None else answer.source.length
    start = _start(answer.status) if not answer.headers else _start_with(answer.status, answer.headers)
    tail = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
    if answer.status == 204 or answer.status == 304:
        return b"%bDate: %b%b" % (start, date, tail)
    if length is None:
        return b"%bDate: %b%b%b" % (start, date, b"\r\nTransfer-Encoding: chunked" if chunked else b"", tail)
    return b"%bDate: %b\r\nContent-Length: %d%b%b" % (start, date, length, tail, b"" if head else body)


def http_date(seconds: float) -> bytes:
    return strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime(seconds)).encode()


@lru_cache(maxsize=64)
def _start(status: int) -> bytes:
    return _start_with(status, NO_HEADERS)


def _start_with(status: int, headers: Mapping[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    for name, value in {**DEFAULTS, **headers}.items():
        if "\r" in value or "\n" in value:
            raise ValueError(f"line break in the header {name}")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, ""]).encode("latin-1", "replace")


def _reduce(value: Any) -> Any:
    """What orjson cannot write by itself: Structs, and mappings and sequences that are no dict or list."""
    if isinstance(value, msgspec.Struct):
        return orjson.Fragment(_encode_struct(value))
    if isinstance(value, msgspec.Raw):
        return orjson.Fragment(bytes(value))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON")

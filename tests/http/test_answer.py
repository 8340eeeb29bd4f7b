"""What handlers give, and what goes wrong, as bytes of HTTP."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
import orjson
import pytest

from homeserver.errors import Forbidden, LimitExceeded, MatrixError, UnknownToken
from homeserver.http.answer import answer_of, answer_of_error, encode_json, to_bytes
from homeserver.http.route import Reply

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


class Point(msgspec.Struct, omit_defaults=True):
    x: int
    y: Any = None
    from_: str = msgspec.field(default="", name="from")


FRAGMENT = orjson.Fragment(b'{"ready":1}')


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, b"{}"),
        ({}, b"{}"),
        ({"a": [1, None, True, "\N{CAT}"]}, '{"a":[1,null,true,"🐈"]}'.encode()),
        (Point(1), b'{"x":1}'),
        (Point(1, from_="s1"), b'{"x":1,"from":"s1"}'),
        ({"a": FRAGMENT}, b'{"a":{"ready":1}}'),
        ({"a": [Point(1, FRAGMENT)]}, b'{"a":[{"x":1,"y":{"ready":1}}]}'),
        (Point(1, [Point(2)]), b'{"x":1,"y":[{"x":2}]}'),
        (Point(1, MappingProxyType({"a": {"b"}})), b'{"x":1,"y":{"a":["b"]}}'),
        (MappingProxyType({"a": ("b", 1)}), b'{"a":["b",1]}'),
        ({"a": msgspec.Raw(b"[ ]")}, b'{"a":[ ]}'),
        (Reply(200, {"a": 1}), b'{"a":1}'),
        (Reply(200, b"\xff raw"), b"\xff raw"),
    ],
)
def test_bodies(result: Any, expected: bytes) -> None:
    assert answer_of(result).body == expected


def test_what_is_not_json() -> None:
    with pytest.raises(TypeError):
        encode_json({"a": object()})


def test_whole_answer() -> None:
    reply = answer_of(Reply(201, b"hi", {"Content-Type": "text/plain", "X-New": "1"}))
    head, _, body = to_bytes(reply, date=DATE).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 201 Created"
    assert lines[1:] == [
        "Content-Type: text/plain",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Access-Control-Allow-Origin: *",
        "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        "Access-Control-Allow-Headers: X-Requested-With, Content-Type, Authorization",
        "Access-Control-Expose-Headers: Retry-After",
        "X-New: 1",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "Content-Length: 2",
    ]
    assert body == b"hi"


def test_variants() -> None:
    answer = answer_of({"a": 1})
    assert to_bytes(answer, date=DATE, close=True).endswith(b'Content-Length: 7\r\nConnection: close\r\n\r\n{"a":1}')
    assert to_bytes(answer, date=DATE, head=True).endswith(b"Content-Length: 7\r\n\r\n")
    assert b"Content-Length" not in to_bytes(answer_of(Reply(204, b"")), date=DATE)
    assert to_bytes(answer_of(Reply(799)), date=DATE).startswith(b"HTTP/1.1 799 Unknown\r\n")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb"])
def test_no_header_splitting(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        to_bytes(answer_of(Reply(200, None, {"X-Name": value})), date=DATE)


@pytest.mark.parametrize(
    ("error", "status", "body", "headers"),
    [
        (Forbidden("No"), 403, {"errcode": "M_FORBIDDEN", "error": "No"}, {}),
        (
            UnknownToken(soft_logout=True),
            401,
            {"errcode": "M_UNKNOWN_TOKEN", "error": "Unknown access token", "soft_logout": True},
            {},
        ),
        (
            LimitExceeded(1001),
            429,
            {"errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests", "retry_after_ms": 1001},
            {"Retry-After": "2"},
        ),
        (MatrixError(401, "", "", {"flows": []}), 401, {"flows": []}, {}),
        (
            MatrixError(405, "M_X", "E", headers={"Allow": "GET"}),
            405,
            {"errcode": "M_X", "error": "E"},
            {"Allow": "GET"},
        ),
    ],
)
def test_errors(error: MatrixError, status: int, body: Any, headers: dict[str, str]) -> None:
    answer = answer_of_error(error)
    assert (answer.status, orjson.loads(answer.body), answer.headers) == (status, body, headers)

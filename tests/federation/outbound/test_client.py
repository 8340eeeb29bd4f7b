"""Asking other servers: what goes out, and what comes of each answer."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.outbound.client import FederationClient, path_to
from federation.outbound.transport import BadAnswer, PeerError, Refused, Response, Unreachable
from federation.room.signing import SigningKey
from federation.wire.errors import read_error
from tests.federation.doubles import Network, answer, outcome
from tests.strategies import json_text, strict_scalars

KEY = SigningKey.generate("1")
PEER = "peer.example"


class Shape(msgspec.Struct):
    name: str
    events: list[msgspec.Raw] = []


def client(response: Response | None = None) -> tuple[FederationClient, Network]:
    network = Network({PEER: lambda request: response} if response is not None else {})
    return FederationClient("us.example", KEY, network, 7.0), network


def test_paths() -> None:
    assert path_to("/a/{}/b/{}", "!r:s", "$e/+ ä") == "/a/%21r%3As/b/%24e%2F%2B%20%C3%A4"
    assert path_to("/a", query=[("v", "1"), ("v", "2 3"), ("ä", "&=")]) == "/a?v=1&v=2%203&%C3%A4=%26%3D"


@given(st.lists(json_text, max_size=3))
def test_paths_are_ascii_whatever_is_in_them(parts: list[str]) -> None:
    path = path_to("/a" + "/{}" * len(parts), *parts, query=[(part, part) for part in parts])
    assert path.isascii()
    assert path.isprintable()
    assert " " not in path
    assert path.partition("?")[0].count("/") == 1 + len(parts)


def test_a_get() -> None:
    asker, network = client(answer({"name": "x", "more": 1, "events": [{"a": 1}]}))
    got = outcome(asker.get(PEER, "/p", into=Shape))
    assert (got.name, bytes(got.events[0])) == ("x", b'{"a":1}')
    (request,) = network.requests
    assert (request.destination, request.method, request.path, request.body) == (PEER, "GET", "/p", None)
    assert request.headers["Authorization"].startswith('X-Matrix origin="us.example",destination="peer.example",key=')
    assert "Content-Type" not in request.headers
    assert request.timeout_s == 7.0


def test_a_put_and_a_post() -> None:
    asker, network = client(answer({}))
    outcome(asker.put(PEER, "/p", into=dict, body={"b": 1, "a": orjson.Fragment(b'{"x":[]}')}, timeout_s=3))
    outcome(asker.post(PEER, "/p", into=dict, body=b'{"a":1}', max_bytes=5))
    put, post = network.requests
    assert (put.method, put.body, put.timeout_s) == ("PUT", b'{"a":{"x":[]},"b":1}', 3)
    assert (post.method, post.body, post.max_bytes) == ("POST", b'{"a":1}', 5)
    assert put.headers["Content-Type"] == "application/json"


def test_unsigned() -> None:
    asker, network = client(answer({}))
    outcome(asker.get(PEER, "/p", into=dict, signed=False))
    assert "Authorization" not in network.requests[0].headers


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"name":1}', b'{"name":"\xff"}', b"{}", b'{"name":', b'{"name":"x","events":{}}']
)
def test_answers_of_the_wrong_shape(body: bytes) -> None:
    asker, _ = client(answer(body))
    with pytest.raises(BadAnswer) as caught:
        outcome(asker.get(PEER, "/p", into=Shape))
    assert caught.value.destination == PEER


@pytest.mark.parametrize("body", [b"\xff", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":' * 100_000])
def test_answers_that_are_no_json(body: bytes) -> None:
    asker, _ = client(answer(body))
    with pytest.raises(BadAnswer):
        outcome(asker.get(PEER, "/p", into=dict))


REFUSALS: list[tuple[int, Any, dict[str, str], tuple[str, str, int | None], bool]] = [
    (403, {"errcode": "M_FORBIDDEN", "error": "no"}, {}, ("M_FORBIDDEN", "no", None), False),
    (404, b"<html>", {}, ("", "", None), False),
    (429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 3000}, {}, ("M_LIMIT_EXCEEDED", "", 3000), True),
    (429, {"errcode": "M_LIMIT_EXCEEDED"}, {"retry-after": "3"}, ("M_LIMIT_EXCEEDED", "", 3000), True),
    (429, {"retry_after_ms": -5}, {}, ("", "", 0), True),
    (502, b"", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, ("", "", None), True),
    (500, {"errcode": 5, "error": ["x"], "retry_after_ms": "1"}, {}, ("", "", None), True),
    (302, b"", {"location": "https://elsewhere"}, ("", "", None), False),
    (400, {"errcode": "M_" + "X" * 9999, "error": "y" * 9999}, {}, ("M_" + "X" * 498, "y" * 500, None), False),
]


@pytest.mark.parametrize(("status", "body", "headers", "error", "retryable"), REFUSALS)
def test_refusals(
    status: int, body: Any, headers: dict[str, str], error: tuple[str, str, int | None], retryable: bool
) -> None:
    asker, _ = client(answer(body, status, headers))
    with pytest.raises(Refused) as caught:
        outcome(asker.get(PEER, "/p", into=dict))
    refused = caught.value
    assert (refused.errcode, refused.error, refused.retry_after_ms) == error
    assert (refused.status, refused.retryable) == (status, retryable)


def test_nobody_there() -> None:
    asker, _ = client()
    with pytest.raises(Unreachable):
        outcome(asker.get(PEER, "/p", into=dict))


def test_all_of_them_are_peer_errors() -> None:
    assert all(issubclass(kind, PeerError) for kind in (Unreachable, BadAnswer, Refused))
    assert str(Refused("a", 403, "M_FORBIDDEN", "no")) == "a: 403 M_FORBIDDEN no"


@given(st.binary() | st.dictionaries(json_text, strict_scalars).map(orjson.dumps), json_text)
def test_no_error_breaks_it(body: bytes, retry_after: str) -> None:
    read_error(body, retry_after)

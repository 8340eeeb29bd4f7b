"""Requests from other servers: honest ones, and all the ways of lying about who one is."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import given

from federation.inbound.x_matrix import Origin, Unauthorised, XMatrix
from federation.keys.keyring import KeyUnavailable
from federation.outbound.client import FederationClient, path_to
from federation.room.canonical import canonical_json
from federation.room.hashing import encode_base64
from federation.room.identifiers import ServerName
from federation.room.signing import SigningKey, sign_json
from federation.wire.x_matrix import Credentials, write_header
from tests.federation.doubles import START_MS, Network, outcome
from tests.strategies import strict_objects

US = "us.example"
THEM = "them.example"
KEY = SigningKey.generate("1")
PATH = b"/_matrix/federation/v1/send/1?a=%20b"


@define
class Keys:
    """A key ring that knows one key, and writes down what it is asked for."""

    asked: list[tuple[str, str, int]] = field(factory=list)

    async def verify_key(self, server_name: str, key_id: str, minimum_valid_until_ts: int) -> bytes:
        self.asked.append((server_name, key_id, minimum_valid_until_ts))
        if (server_name, key_id) != (THEM, KEY.key_id):
            raise KeyUnavailable(server_name, key_id, "it could not be had")
        return KEY.verify_key


def verify(authorization: str, body: bytes = b"", *, method: str = "PUT", uri: bytes = PATH) -> Origin:
    return outcome(XMatrix(US, Keys(), lambda: START_MS).verify(method, uri, authorization, body))


@frozen
class Signed:
    """A request as a peer signs it; everything can be wrong."""

    method: str = "PUT"
    uri: str = PATH.decode()
    origin: str = THEM
    destination: str | None = US
    content: Any = None
    key: SigningKey = KEY

    def header(self, **instead: Any) -> str:
        """The header, with parameters other than those that were signed if need be."""
        value = {"method": self.method, "uri": self.uri, "origin": self.origin}
        if self.destination is not None:
            value["destination"] = self.destination
        if self.content is not None:
            value["content"] = self.content
        signed = sign_json(value, self.origin, self.key)
        claims: dict[str, Any] = {
            "origin": ServerName(self.origin),
            "key_id": self.key.key_id,
            "signature": signed["signatures"][self.origin][self.key.key_id],
            "destination": self.destination,
        }
        return write_header(Credentials(**{**claims, **instead}))


def test_honest_requests() -> None:
    assert verify(Signed().header()) == Origin(ServerName(THEM))
    assert verify(Signed(method="GET").header(), method="GET") == Origin(ServerName(THEM))
    assert verify(Signed(content={"b": [1, "ä"], "a": {}}).header(), '{"a":{},"b":[1,"ä"]}'.encode())


def test_the_key_must_be_valid_now() -> None:
    keys = Keys()
    outcome(XMatrix(US, keys, lambda: START_MS).verify("PUT", PATH, Signed().header(), b""))
    assert keys.asked == [(THEM, KEY.key_id, START_MS)]


def test_servers_of_before_1_3_name_no_destination() -> None:
    assert verify(Signed(destination=None).header()) == Origin(ServerName(THEM))


@pytest.mark.parametrize(
    "body",
    [
        b'{ "b" : [ 1 , "\\u00e4" ] , "a" : { } }',
        '{"b":[1,"ä"],"a":{}}'.encode(),
        b'{"a":{"x":1},"a":{},"b":[1,"\\u00e4"]}',
    ],
)
def test_bodies_need_not_be_canonical(body: bytes) -> None:
    assert verify(Signed(content={"b": [1, "ä"], "a": {}}).header(), body)


@pytest.mark.parametrize("number", [1.5, 1e100, 10**30, 1e16])
def test_numbers_of_old_room_versions(number: float) -> None:
    """They are signed as the reference implementation writes them, and sent as anybody may."""
    header = Signed(content={"pdus": [number]}).header()
    assert verify(header, b'{"pdus":[ %s ]}' % repr(number).encode())


LIES: list[tuple[str, str, dict[str, Any]]] = [
    ("no header", "", {}),
    ("a token", "Bearer abc", {}),
    ("another method", Signed(method="GET").header(), {}),
    ("another path", Signed(uri="/_matrix/federation/v1/send/2").header(), {}),
    ("another query", Signed(uri=PATH.decode() + "c").header(), {}),
    ("the path decoded", Signed(uri="/_matrix/federation/v1/send/1?a= b").header(), {}),
    ("no body signed", Signed().header(), {"body": b"{}"}),
    ("another body", Signed(content={"a": 1}).header(), {"body": b'{"a":2}'}),
    ("no body sent", Signed(content={"a": 1}).header(), {}),
    ("a body that is no JSON", Signed(content={"a": 1}).header(), {"body": b"{'a':1}"}),
    ("a body that is not UTF-8", Signed(content={"a": 1}).header(), {"body": b'{"a":"\xff"}'}),
    ("a body too deep", Signed(content={"a": 1}).header(), {"body": b"[" * 100_000}),
    ("a body with NaN", Signed(content={"a": 1}).header(), {"body": b'{"a":NaN}'}),
    ("a body with half a character", Signed(content={"a": 1}).header(), {"body": b'{"a":"\\ud800"}'}),
    ("for another server", Signed(destination="other.example").header(), {}),
    ("for another server, told otherwise", Signed(destination="other.example").header(destination=US), {}),
    ("for another server, not told", Signed(destination="other.example").header(destination=None), {}),
    ("for nobody", Signed(destination="").header(), {}),
    ("of another server", Signed().header(origin=ServerName("other.example")), {}),
    ("of this server", Signed().header(origin=ServerName(US)), {}),
    ("by an unknown key", Signed(key=SigningKey.generate("2")).header(), {}),
    ("by a wrong key of that name", Signed(key=SigningKey.generate("1")).header(), {}),
    ("by a key of another algorithm", Signed().header(key_id="curve25519:1"), {}),
    ("by a key without a name", Signed().header(key_id="ed25519:"), {}),
    ("by a key of a huge name", Signed().header(key_id="ed25519:" + "a" * 500), {}),
    ("signature cut", Signed().header(signature="AAAA"), {}),
    ("signature of zeros", Signed().header(signature=encode_base64(bytes(64))), {}),
    ("signature no Base64", Signed().header(signature="????"), {}),
    ("a path that is not ASCII", Signed().header(), {"uri": b"/\xc3\xa4"}),
]


@pytest.mark.parametrize(("authorization", "request_"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_lies(authorization: str, request_: dict[str, Any]) -> None:
    with pytest.raises(Unauthorised):
        verify(authorization, **request_)


def test_who_is_not_known_is_not_asked_about_before_the_rest_is_plausible() -> None:
    keys = Keys()
    gate = XMatrix(US, keys, lambda: START_MS)
    for header in (Signed(destination="other.example").header(), Signed().header(key_id="rsa:1"), "X-Matrix a=b"):
        with pytest.raises(Unauthorised):
            outcome(gate.verify("PUT", PATH, header, b""))
    assert keys.asked == []


@given(strict_objects)
def test_what_our_client_sends_our_gate_lets_in(content: dict[str, Any]) -> None:
    client = FederationClient(THEM, KEY, Network())
    path = path_to("/_matrix/federation/v1/send/{}", "a/b ä", query=[("x", "y z&")])
    body = canonical_json(content)
    header = client.authorization("PUT", US, path, body)
    assert verify(header, body, uri=path.encode()).server_name == THEM
    with pytest.raises(Unauthorised):
        verify(header, body + b" x", uri=path.encode())

"""The X-Matrix header: what is written, what is read, and what is signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.canonical import canonical_json
from federation.room.hashing import encode_base64
from federation.room.identifiers import ServerName
from federation.room.signing import sign_json, verify_signature
from federation.wire.x_matrix import BadHeader, Credentials, read_header, signed_request, write_header
from tests.strategies import KEY, SERVER_NAME, json_text, server_names, strict_objects

FULL = Credentials(ServerName("a.example"), "ed25519:1", "c2ln", "b.example")
BARE = Credentials(ServerName("a.example"), "ed25519:1", "c2ln")
FOR_NOBODY = Credentials(ServerName("a.example"), "ed25519:1", "c2ln", "")
LITERAL = Credentials(ServerName("[::1]:8448"), "ed25519:1", "+/==")


def test_what_is_written() -> None:
    assert write_header(FULL) == 'X-Matrix origin="a.example",destination="b.example",key="ed25519:1",sig="c2ln"'
    assert write_header(BARE) == 'X-Matrix origin="a.example",key="ed25519:1",sig="c2ln"'


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('X-Matrix origin="a.example",destination="b.example",key="ed25519:1",sig="c2ln"', FULL),
        ('x-mAtRiX   sig="c2ln" , KEY="ed25519:1"\t,\tOrigin="a.example",Destination="b.example"', FULL),
        ('X-Matrix origin=a.example,destination=b.example,key="ed25519:1",sig=c2ln', FULL),
        ("X-Matrix origin=a.example,destination=b.example,key=ed25519:1,sig=c2ln", FULL),  # colons without quotes
        ('X-Matrix origin="a\\.example",destination="b.example",key="ed25519\\:1",sig="c2l\\n"', FULL),
        ('X-Matrix origin="a.example",key="ed25519:1",sig="c2ln",new="a,b=\\"c\\""', BARE),
        ('X-Matrix ,origin="a.example",, key="ed25519:1", ,sig="c2ln",', BARE),
        ('X-Matrix origin = "a.example", key= "ed25519:1",sig ="c2ln"  ', BARE),
        ('X-Matrix origin="[::1]:8448",key="ed25519:1",sig="+/=="', LITERAL),
        ('X-Matrix origin=[::1]:8448,key=ed25519:1,sig=+/==', LITERAL),
        ('X-Matrix origin="a.example",destination="",key="ed25519:1",sig="c2ln"', FOR_NOBODY),
    ],
)  # fmt: skip
def test_what_is_read(text: str, read: Credentials) -> None:
    assert read_header(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer token",
        "X-Matrix",
        "X-Matrixorigin=a",
        "X-Matrix ",
        "X-Matrix nonsense",
        'X-Matrix origin="a.example",key="ed25519:1"',
        'X-Matrix origin="a.example",sig="c2ln"',
        'X-Matrix key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="",key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="a b",key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="https://a.example",key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="a.example",origin="b.example",key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="a.example",ORIGIN="a.example",key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="a.example"key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="a.example;key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="a.example",key="ed25519:1",sig="c2ln',
        'X-Matrix origin="a.example",key="ed25519:1",sig="c2ln\\',
        'X-Matrix origin="a.example" key="ed25519:1" sig="c2ln"',
        'X-Matrix =a,origin="a.example",key="ed25519:1",sig="c2ln"',
        'X-Matrix origin="a.example",key="ed25519:1",sig="' + "a" * 5000 + '"',
        "X-Matrix " + "," * 4000,
        'X-Matrix origin="' + "\\a" * 2000,
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(BadHeader):
        read_header(text)


@given(
    server_names, server_names | st.none(), st.from_regex(r"ed25519:[A-Za-z0-9_]{1,20}", fullmatch=True), st.binary()
)
def test_what_is_written_is_read(origin: str, destination: str | None, key_id: str, signature: bytes) -> None:
    credentials = Credentials(ServerName(origin), key_id, encode_base64(signature) or "x", destination)
    assert read_header(write_header(credentials)) == credentials


@given(json_text | st.text(st.sampled_from('X-Matrix origin=",key\\ \t'), max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    for start in ("", "X-Matrix ", 'X-Matrix origin="a.example",key="ed25519:1",sig="c2ln",'):
        try:
            read_header(start + text)
        except BadHeader:
            continue


@given(st.sampled_from(["GET", "PUT"]), json_text, json_text, st.none() | json_text, st.none() | strict_objects)
def test_what_is_signed_is_the_canonical_json_of_the_request(
    method: str, uri: str, origin: str, destination: str | None, content: Any
) -> None:
    """Spec: https://spec.matrix.org/v1.19/server-server-api/#request-authentication, step 1."""
    request: dict[str, Any] = {"method": method, "uri": uri, "origin": origin}
    if destination is not None:
        request["destination"] = destination
    if content is not None:
        request["content"] = content
    message = signed_request(method, uri, origin, destination, canonical_json(content) if content is not None else None)
    assert message == canonical_json(request)
    signed = sign_json(request, SERVER_NAME, KEY)
    assert verify_signature(message, signed["signatures"][SERVER_NAME][KEY.key_id], KEY.verify_key)


@given(strict_objects, strict_objects, json_text, json_text)
def test_what_is_signed_has_one_reading(content: Any, other: Any, uri: str, other_uri: str) -> None:
    """Whatever stands in a body, it cannot pass for another request."""
    one = signed_request("PUT", uri, "a", "b", canonical_json(content))
    two = signed_request("PUT", other_uri, "a", "b", canonical_json(other))
    assert (one == two) == (canonical_json(content) == canonical_json(other) and uri == other_uri)
    assert json.loads(one)["content"] == content


def test_a_body_that_tries_to_be_more_than_a_body() -> None:
    inner = signed_request("PUT", "/old", "a", "b", b"{}")
    smuggled = b"{}" + inner[len(b'{"content":{}') : -1] + b',"x":{}'
    message = signed_request("PUT", "/new", "a", "b", smuggled)
    assert message != inner
    with pytest.raises(json.JSONDecodeError):
        json.loads(smuggled)

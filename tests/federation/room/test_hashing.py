from __future__ import annotations

import base64
import hashlib
from typing import Any

import canonicaljson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.event import Event
from federation.room.hashing import (
    content_hash,
    decode_base64,
    encode_base64,
    encode_urlsafe_base64,
    event_id_of,
    reference_hash,
    signed_bytes,
)
from federation.room.redaction import redact
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.strategies import versioned_events

# https://spec.matrix.org/v1.19/appendices/#event-signing
MINIMAL_EVENT: dict[str, Any] = {
    "room_id": "!x:domain",
    "sender": "@a:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "signatures": {},
    "hashes": {},
    "type": "X",
    "content": {},
    "prev_events": [],
    "auth_events": [],
    "depth": 3,
    "unsigned": {"age_ts": 1000000},
}
REDACTABLE_EVENT: dict[str, Any] = {
    "content": {"body": "Here is the message content"},
    "event_id": "$0:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "type": "m.room.message",
    "room_id": "!r:domain",
    "sender": "@u:domain",
    "signatures": {},
    "unsigned": {"age_ts": 1000000},
}


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (MINIMAL_EVENT, "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"),
        (REDACTABLE_EVENT, "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g"),
    ],
)
def test_content_hashes_of_the_specification(version: RoomVersion, fields: dict[str, Any], expected: str) -> None:
    assert content_hash(version, fields) == expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        # https://spec.matrix.org/v1.19/appendices/#unpadded-base64
        (b"", ""),
        (b"f", "Zg"),
        (b"fo", "Zm8"),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg"),
        (b"fooba", "Zm9vYmE"),
        (b"foobar", "Zm9vYmFy"),
    ],
)
def test_base64_of_the_specification(data: bytes, text: str) -> None:
    assert encode_base64(data) == encode_urlsafe_base64(data) == text
    assert decode_base64(text) == data


@given(st.binary())
def test_base64_is_read_in_every_dress(data: bytes) -> None:
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        assert decode_base64(encoded.decode()) == data
        assert decode_base64(encoded.decode().rstrip("=")) == data
    assert encode_base64(data) == base64.b64encode(data).decode().rstrip("=")
    assert encode_urlsafe_base64(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize("text", ["A", "AAAAA", "Zm9v!", "Zm 9v", "Zm9v\n", "Zm=9v", "é", "\ud800", "\0\0\0\0"])
def test_what_is_not_base64(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)


@pytest.mark.parametrize(
    ("identifier", "shape"),
    [("1", "$0:domain"), ("2", "$0:domain"), ("3", "standard"), *((str(n), "url-safe") for n in range(4, 13))],
)
def test_event_ids(identifier: str, shape: str) -> None:
    version = ROOM_VERSIONS[identifier]
    digest = reference_hash(version, REDACTABLE_EVENT)
    encode = {"standard": base64.b64encode, "url-safe": base64.urlsafe_b64encode}.get(shape)
    expected = shape if encode is None else "$" + encode(digest).decode().rstrip("=")
    assert event_id_of(version, REDACTABLE_EVENT) == expected


def test_ids_of_version_3_use_the_standard_alphabet() -> None:
    """An event whose hash has both of the characters in which the alphabets differ."""
    for depth in range(1000):
        fields = {**MINIMAL_EVENT, "depth": depth}
        old, new = event_id_of(ROOM_VERSIONS["3"], fields), event_id_of(ROOM_VERSIONS["4"], fields)
        assert old.replace("+", "-").replace("/", "_") == new
        if "+" in old and "/" in old:
            return
    pytest.fail("a thousand hashes without both characters")


@given(versioned_events())
def test_the_reference_hash_is_what_the_specification_says(case: tuple[RoomVersion, Event]) -> None:
    """The specification's four steps, by the reference library."""
    version, event = case
    redacted = redact(version, event.to_json())
    redacted.pop("signatures", None)
    redacted.pop("unsigned", None)
    encoded = canonicaljson.encode_canonical_json(redacted)
    assert signed_bytes(version, event.to_json()) == encoded
    assert reference_hash(version, event.to_json()) == hashlib.sha256(encoded).digest()


@given(versioned_events())
def test_neither_redaction_nor_signatures_nor_unsigned_change_the_reference_hash(
    case: tuple[RoomVersion, Event],
) -> None:
    version, event = case
    fields = event.to_json()
    expected = reference_hash(version, fields)
    assert reference_hash(version, redact(version, fields)) == expected
    assert reference_hash(version, {**fields, "signatures": {"elsewhere": {}}, "unsigned": {"age": 5}}) == expected
    assert reference_hash(version, {**fields, "hashes": {"sha256": "another"}}) != expected


@given(versioned_events())
def test_the_content_hash_is_what_the_specification_says(case: tuple[RoomVersion, Event]) -> None:
    version, event = case
    fields = event.to_json()
    covered = {name: value for name, value in fields.items() if name not in {"unsigned", "signatures", "hashes"}}
    digest = hashlib.sha256(canonicaljson.encode_canonical_json(covered)).digest()
    assert decode_base64(content_hash(version, {**fields, "unsigned": {}})) == digest
    assert fields["hashes"]["sha256"] == content_hash(version, fields)


def test_floats_and_huge_integers_in_old_rooms() -> None:
    """Written by Python's rules: what every homeserver hashed when such events were sent."""
    fields = {**MINIMAL_EVENT, "content": {"a": 1e16, "b": 2**70, "c": 0.1}}
    assert b'"content":{}' in signed_bytes(ROOM_VERSIONS["5"], fields)
    covered = b'{"auth_events":[],"content":{"a":1e+16,"b":1180591620717411303424,"c":0.1},"depth":3,'
    covered += b'"origin":"domain","origin_server_ts":1000000,"prev_events":[],"room_id":"!x:domain",'
    covered += b'"sender":"@a:domain","type":"X"}'
    assert content_hash(ROOM_VERSIONS["5"], fields) == encode_base64(hashlib.sha256(covered).digest())

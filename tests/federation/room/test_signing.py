from __future__ import annotations

from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from federation.room.build import build_event
from federation.room.event import Event
from federation.room.hashing import content_hash
from federation.room.redaction import redact
from federation.room.signing import (
    BadSigningKey,
    SigningKey,
    read_signing_keys,
    sign_event,
    sign_json,
    signatures_needed,
    verify_event_signature,
    verify_signature,
    verify_signed_json,
    write_signing_key,
)
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.federation.room.test_hashing import MINIMAL_EVENT, REDACTABLE_EVENT
from tests.strategies import KEY, SERVER_NAME, loose_objects, strict_objects, versioned_events

OTHER_KEY = SigningKey.from_seed("other", bytes(32))
PEER_KEY = signedjson.key.decode_verify_key_bytes(KEY.key_id, KEY.verify_key)


# https://spec.matrix.org/v1.19/appendices/#json-signing
@pytest.mark.parametrize(
    ("value", "signature"),
    [
        ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            {"one": 1, "two": "Two"},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ],
)
def test_json_of_the_specification(value: dict[str, Any], signature: str) -> None:
    assert sign_json(value, "domain", KEY) == {**value, "signatures": {"domain": {"ed25519:1": signature}}}


# https://spec.matrix.org/v1.19/appendices/#event-signing
@pytest.mark.parametrize("version", [v for v in ROOM_VERSIONS.values() if not v.redaction_tidied], ids=str)
@pytest.mark.parametrize(
    ("fields", "signature"),
    [
        (MINIMAL_EVENT, "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"),
        (REDACTABLE_EVENT, "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"),
    ],
)
def test_events_of_the_specification(version: RoomVersion, fields: dict[str, Any], signature: str) -> None:
    """They carry `origin`, which signatures cover up to version 10."""
    hashed = {**fields, "hashes": {"sha256": content_hash(version, fields)}}
    signed = sign_event(version, hashed, "domain", KEY)
    assert signed == {**hashed, "signatures": {"domain": {"ed25519:1": signature}}}
    assert verify_event_signature(version, signed, "domain", "ed25519:1", KEY.verify_key)


@given(strict_objects | loose_objects, st.booleans())
def test_what_we_sign_verifies(value: dict[str, Any], with_unsigned: bool) -> None:
    value.pop("signatures", None)
    if with_unsigned:
        value["unsigned"] = {"age": 1}
    else:
        value.pop("unsigned", None)
    signed = sign_json(value, SERVER_NAME, KEY)
    assert verify_signed_json(signed, SERVER_NAME, KEY.key_id, KEY.verify_key)
    signedjson.sign.verify_signed_json(signed, SERVER_NAME, PEER_KEY)
    assert signed.get("unsigned") == value.get("unsigned")

    assert not verify_signed_json({**signed, "more": 1}, SERVER_NAME, KEY.key_id, KEY.verify_key)
    assert not verify_signed_json(signed, SERVER_NAME, KEY.key_id, OTHER_KEY.verify_key)
    assert not verify_signed_json(signed, "elsewhere", KEY.key_id, KEY.verify_key)
    assert not verify_signed_json(signed, SERVER_NAME, "ed25519:2", KEY.verify_key)


@given(strict_objects)
def test_what_signedjson_signs_verifies(value: dict[str, Any]) -> None:
    value.pop("signatures", None)
    peer = signedjson.key.decode_signing_key_base64("ed25519", "1", write_signing_key(KEY).split()[2])
    signed = signedjson.sign.sign_json(dict(value), SERVER_NAME, peer)
    assert signed == sign_json(value, SERVER_NAME, KEY)


@given(versioned_events())
def test_an_event_verifies_whole_and_redacted_here_and_elsewhere(case: tuple[RoomVersion, Event]) -> None:
    version, event = case
    fields = event.to_json()
    for copy in (fields, redact(version, fields), {**fields, "unsigned": {"age": 1}}):
        assert verify_event_signature(version, copy, SERVER_NAME, KEY.key_id, KEY.verify_key)
    signedjson.sign.verify_signed_json(redact(version, fields), SERVER_NAME, PEER_KEY)
    for name, value in [("sender", "@mallory:domain"), ("depth", event.depth + 1), ("hashes", {"sha256": "x"})]:
        assert not verify_event_signature(version, {**fields, name: value}, SERVER_NAME, KEY.key_id, KEY.verify_key)


@given(versioned_events())
def test_a_second_server_adds_its_signature(case: tuple[RoomVersion, Event]) -> None:
    version, event = case
    before = event.to_json()
    both = sign_event(version, before, "elsewhere", OTHER_KEY)
    assert before == event.to_json()
    assert both["signatures"].keys() == {SERVER_NAME, "elsewhere"}
    assert verify_event_signature(version, both, SERVER_NAME, KEY.key_id, KEY.verify_key)
    assert verify_event_signature(version, both, "elsewhere", OTHER_KEY.key_id, OTHER_KEY.verify_key)


@pytest.mark.parametrize(
    "signatures",
    [
        None,
        [],
        "x",
        {},
        {"domain": None},
        {"domain": []},
        {"domain": {}},
        {"domain": {"ed25519:1": None}},
        {"domain": {"ed25519:1": 7}},
        {"domain": {"ed25519:1": ""}},
        {"domain": {"ed25519:1": "not base64!"}},
        {"domain": {"ed25519:1": "\ud800"}},
        {"domain": {"ed25519:1": "AAAA"}},
        {"domain": {"ed25519:1": "A" * 86}},
        {"domain": {"ed25519:1": "A" * 100_000}},
    ],
)
def test_broken_signatures_do_not_verify(signatures: object) -> None:
    assert not verify_signed_json({"signatures": signatures}, "domain", "ed25519:1", KEY.verify_key)
    fields = {**MINIMAL_EVENT, "signatures": signatures}
    assert not verify_event_signature(ROOM_VERSIONS["10"], fields, "domain", "ed25519:1", KEY.verify_key)


@pytest.mark.parametrize("verify_key", [b"", bytes(31), bytes(32), bytes(33), b"\xff" * 32])
def test_broken_keys_verify_nothing(verify_key: bytes) -> None:
    signature = sign_json({}, "domain", KEY)["signatures"]["domain"]["ed25519:1"]
    assert verify_signature(b"{}", signature, KEY.verify_key)
    assert not verify_signature(b"{}", signature, verify_key)


def test_what_cannot_be_canonical_does_not_verify() -> None:
    signed = sign_json({}, "domain", KEY)
    for poison in ("\ud800", float("nan"), object()):
        assert not verify_signed_json({**signed, "a": poison}, "domain", "ed25519:1", KEY.verify_key)
        for version in ROOM_VERSIONS.values():
            fields = {**MINIMAL_EVENT, **signed, "sender": poison}
            assert not verify_event_signature(version, fields, "domain", "ed25519:1", KEY.verify_key)


# Who must sign


def event_of(version: RoomVersion, event_type: str, content: dict[str, Any]) -> Event:
    old = version.cites_with_hashes
    return build_event(
        version,
        room_id="!" + "r" * 43 if version.room_id_is_hash else "!room:domain",
        type=event_type,
        sender="@alice:sender.example",
        state_key="@bob:elsewhere.example",
        content=content,
        prev_events=[],
        auth_events=[],
        depth=1,
        origin_server_ts=0,
        server_name="sender.example",
        key=KEY,
        event_id="$id:named.example" if old else None,
    )


@pytest.mark.parametrize(
    ("versions", "event_type", "content", "needed"),
    [
        (range(1, 3), "m.room.message", {}, {"sender.example", "named.example"}),
        (range(3, 13), "m.room.message", {}, {"sender.example"}),
        (range(3, 13), "m.room.member", {"membership": "invite"}, {"sender.example"}),
        (range(3, 13), "m.room.member", {"membership": "invite", "third_party_invite": {}}, set()),
        (range(1, 3), "m.room.member", {"membership": "invite", "third_party_invite": {}}, {"named.example"}),
        (range(3, 13), "m.room.member", {"membership": "join", "third_party_invite": {}}, {"sender.example"}),
        (range(3, 13), "m.room.message", {"membership": "invite", "third_party_invite": {}}, {"sender.example"}),
        (
            range(3, 8),
            "m.room.member",
            {"membership": "join", "join_authorised_via_users_server": "@carol:voucher.example"},
            {"sender.example"},
        ),
        (
            range(8, 13),
            "m.room.member",
            {"membership": "join", "join_authorised_via_users_server": "@carol:voucher.example"},
            {"sender.example", "voucher.example"},
        ),
    ],
)
def test_signatures_needed(versions: range, event_type: str, content: dict[str, Any], needed: set[str]) -> None:
    for number in versions:
        version = ROOM_VERSIONS[str(number)]
        assert signatures_needed(version, event_of(version, event_type, content)) == needed


# Key files


def test_key_files_are_those_of_signedjson() -> None:
    ours = SigningKey.generate("a_Bc9")
    [theirs] = signedjson.key.read_signing_keys([write_signing_key(ours)])
    assert (theirs.alg, theirs.version, bytes(theirs.verify_key)) == ("ed25519", "a_Bc9", ours.verify_key)
    assert read_signing_keys(write_signing_key(ours) + "\n" + write_signing_key(KEY)) == [ours, KEY]
    assert read_signing_keys("") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ed25519 1", "line 1: expected"),
        ("rsa 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", "line 1: expected"),
        ("\n\ned25519 1 secret!", "line 3: the seed is not Base64"),
        ("ed25519 1 YJDBA9Xnr2s", "line 1: a key's seed must have 32 bytes"),
        ("ed25519 a:b YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", "line 1: a key's version"),
    ],
)
def test_bad_key_files(text: str, why: str) -> None:
    with pytest.raises(BadSigningKey, match=why) as raised:
        read_signing_keys(text)
    assert "YJDBA9" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_key_does_not_show_its_secret() -> None:
    key = SigningKey.generate("1")
    assert key.version == "1"
    assert repr(key.seed) not in repr(key)
    assert "secret" not in repr(key)
    assert SigningKey.from_seed("1", key.seed) == key
    assert SigningKey.generate("1") != key

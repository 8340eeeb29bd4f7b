"""What rooms say of policy servers, and their signatures on events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.event import Event
from federation.room.hashing import encode_base64, encode_urlsafe_base64
from federation.room.policy import KEY_ID, PolicyServer, is_endorsed, is_exempt, read_policy, with_endorsement
from federation.room.redaction import redact_event
from federation.room.signing import SigningKey, sign_event, signature_of
from federation.room.versions import RoomVersion
from tests.strategies import KEY as ORIGIN_KEY
from tests.strategies import SERVER_NAME, loose_objects, versioned_events

KEY = SigningKey.from_seed("policy_server", b"p" * 32)
OTHER = SigningKey.from_seed("policy_server", b"q" * 32)
VIA = "policy.example"
SERVER = PolicyServer(VIA, KEY.verify_key)
PUBLIC = encode_base64(KEY.verify_key)


@pytest.mark.parametrize(
    ("content", "server"),
    [
        ({"via": VIA, "public_keys": {"ed25519": PUBLIC}}, SERVER),
        ({"via": VIA, "public_keys": {"ed25519": encode_urlsafe_base64(KEY.verify_key), "x": "y"}, "z": 1}, SERVER),
        ({"via": VIA, "public_keys": {"ed25519": PUBLIC + "="}}, SERVER),
        # It says that there is one, and nothing could be by a key that is none.
        ({"via": VIA, "public_keys": {"ed25519": "!"}}, PolicyServer(VIA, b"")),
        ({"via": VIA, "public_keys": {"ed25519": PUBLIC[:-4]}}, PolicyServer(VIA, b"")),
        ({}, None),
        ({"via": VIA}, None),
        ({"via": 1, "public_keys": {"ed25519": PUBLIC}}, None),
        ({"via": VIA, "public_keys": PUBLIC}, None),
        ({"via": VIA, "public_keys": {"ed25519": 1}}, None),
        ({"via": VIA, "public_keys": {"rsa": PUBLIC}}, None),
    ],
)
def test_what_a_room_says(content: dict[str, Any], server: PolicyServer | None) -> None:
    assert read_policy(content) == server


@given(loose_objects, st.sampled_from(["via", "public_keys"]), loose_objects)
def test_no_content_breaks_it(content: dict[str, Any], name: str, inner: dict[str, Any]) -> None:
    read_policy({**content, name: inner})


def sign(version: RoomVersion, event: Event, server_name: str, key: SigningKey) -> str:
    return str(signature_of(sign_event(version, event.to_json(), server_name, key), server_name, KEY_ID))


@given(versioned_events())
def test_an_endorsement(found: tuple[RoomVersion, Event]) -> None:
    version, event = found
    assert not is_endorsed(version, event, SERVER)
    endorsed = with_endorsement(version, event, VIA, sign(version, event, VIA, KEY))
    assert is_endorsed(version, endorsed, SERVER)
    assert endorsed.event_id == event.event_id
    assert is_endorsed(version, redact_event(version, endorsed), SERVER), "it holds for what redaction leaves"
    assert not is_endorsed(version, endorsed, PolicyServer(VIA, OTHER.verify_key))
    assert not is_endorsed(version, endorsed, PolicyServer("other.example", KEY.verify_key))
    assert not is_endorsed(version, endorsed, PolicyServer(VIA, b""))
    before, after = (orjson.loads(one.raw) for one in (event, endorsed))
    assert {**after, "signatures": before["signatures"]} == before
    assert after["signatures"][SERVER_NAME] == before["signatures"][SERVER_NAME]


@given(versioned_events())
def test_the_policy_server_may_be_the_senders_own(found: tuple[RoomVersion, Event]) -> None:
    """Its endorsement stands beside its signature as a server, and takes nothing from it."""
    version, event = found
    endorsed = with_endorsement(version, event, SERVER_NAME, sign(version, event, SERVER_NAME, KEY))
    signatures = orjson.loads(endorsed.raw)["signatures"][SERVER_NAME]
    assert set(signatures) == {ORIGIN_KEY.key_id, KEY_ID}
    again = with_endorsement(version, endorsed, SERVER_NAME, "replaced")
    assert orjson.loads(again.raw)["signatures"][SERVER_NAME][KEY_ID] == "replaced"


@pytest.mark.parametrize(
    ("event_type", "state_key", "exempt"),
    [("m.room.policy", "", True), ("m.room.policy", "x", False), ("m.room.policy", None, False), ("m.a", "", False)],
)
def test_what_needs_none(event_type: str, state_key: str | None, exempt: bool) -> None:
    event = Event("$x", "!r:a", event_type, state_key, "@a:b", 0, 0, (), (), None, b"{}")
    assert is_exempt(event) is exempt

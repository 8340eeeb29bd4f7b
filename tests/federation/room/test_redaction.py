from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from federation.room.event import Event
from federation.room.parse import content_hash_matches, load_event, parse_pdu
from federation.room.redaction import redact, redact_content, redact_event
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.strategies import loose_objects, room_versions, versioned_events

ALL = range(1, 13)
POWER_LEVELS = {"ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"}

# By event type and room versions, what survives: https://spec.matrix.org/v1.19/rooms/, "Redactions" of each version.
KEPT_CONTENT: list[tuple[range, str, set[str]]] = [
    (ALL, "m.room.message", set()),
    (ALL, "m.room.topic", set()),
    (ALL, "", set()),
    (range(1, 9), "m.room.member", {"membership"}),
    (range(9, 13), "m.room.member", {"membership", "join_authorised_via_users_server"}),
    (range(1, 11), "m.room.create", {"creator"}),
    (range(1, 8), "m.room.join_rules", {"join_rule"}),
    (range(8, 13), "m.room.join_rules", {"join_rule", "allow"}),
    (range(1, 11), "m.room.power_levels", POWER_LEVELS),
    (range(11, 13), "m.room.power_levels", POWER_LEVELS | {"invite"}),
    (range(1, 6), "m.room.aliases", {"aliases"}),
    (range(6, 13), "m.room.aliases", set()),
    (ALL, "m.room.history_visibility", {"history_visibility"}),
    (range(1, 11), "m.room.redaction", set()),
    (range(11, 13), "m.room.redaction", {"redacts"}),
]
EVERY_KEY = {key for _, _, keys in KEPT_CONTENT for key in keys} | {"body", "notifications", "reason", "via"}


@pytest.mark.parametrize(("versions", "event_type", "kept"), KEPT_CONTENT)
def test_what_stays_of_the_content(versions: range, event_type: str, kept: set[str]) -> None:
    content = {key: f"the {key}" for key in EVERY_KEY}
    for number in versions:
        left = redact_content(ROOM_VERSIONS[str(number)], event_type, content)
        assert left == {key: f"the {key}" for key in kept}, number
        assert redact_content(ROOM_VERSIONS[str(number)], event_type, {"body": 1}) == {}


def test_a_create_event_keeps_everything_since_version_11() -> None:
    content = {"creator": "@a:b", "room_version": "11", "m.federate": False, "anything": [1]}
    assert redact_content(ROOM_VERSIONS["10"], "m.room.create", content) == {"creator": "@a:b"}
    assert redact_content(ROOM_VERSIONS["11"], "m.room.create", content) == content
    assert redact_content(ROOM_VERSIONS["12"], "m.room.create", content) == content


@pytest.mark.parametrize(
    ("invite", "left"),
    [
        ({"signed": {"token": "t"}, "display_name": "A"}, {"signed": {"token": "t"}}),
        ({"signed": None}, {"signed": None}),
        ({"display_name": "A"}, {}),
        ({}, {}),
    ],
)
def test_third_party_invites_keep_their_signed_part_since_version_11(
    invite: dict[str, Any], left: dict[str, Any]
) -> None:
    content = {"membership": "invite", "third_party_invite": invite}
    for number in ALL:
        expected = {"membership": "invite"} | ({"third_party_invite": left} if number >= 11 else {})
        assert redact_content(ROOM_VERSIONS[str(number)], "m.room.member", content) == expected


def test_a_third_party_invite_that_is_no_object_goes() -> None:
    for odd in (None, "signed", ["signed"], 1):
        assert redact_content(ROOM_VERSIONS["11"], "m.room.member", {"third_party_invite": odd}) == {}


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
def test_which_fields_stay(version: RoomVersion) -> None:
    always = {"event_id", "type", "room_id", "sender", "state_key", "hashes", "signatures", "depth"}
    always |= {"prev_events", "auth_events", "origin_server_ts"}
    before_11 = {"prev_state", "origin", "membership"}
    never = {"unsigned", "redacts", "age", "user_id", "org.example.custom"}
    fields: dict[str, Any] = dict.fromkeys(always | before_11 | never, "x")
    kept = always if version.redaction_tidied else always | before_11
    assert redact(version, fields) == dict.fromkeys(kept, "x")
    assert redact(version, fields | {"content": {"body": "b"}}) == dict.fromkeys(kept, "x") | {"content": {}}


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
@pytest.mark.parametrize("fields", [{}, {"type": []}, {"type": {}, "content": {}}, {"type": 1, "content": 5}])
def test_shapeless_events_do_no_harm(version: RoomVersion, fields: dict[str, Any]) -> None:
    assert redact(version, fields).keys() == fields.keys()


@given(room_versions, loose_objects, loose_objects)
def test_redacting_anything_twice_is_redacting_it_once(
    version: RoomVersion, fields: dict[str, Any], content: dict[str, Any]
) -> None:
    once = redact(version, {**fields, "content": content})
    assert redact(version, once) == once


@given(versioned_events())
def test_redacting_an_event_twice_is_redacting_it_once(case: tuple[RoomVersion, Event]) -> None:
    version, event = case
    once = redact_event(version, event)
    assert redact_event(version, once) == once
    assert redact(version, redact(version, event.to_json())) == redact(version, event.to_json())


@given(versioned_events())
def test_a_redacted_event_is_still_that_event(case: tuple[RoomVersion, Event]) -> None:
    version, event = case
    before = event.to_json()
    redacted = redact_event(version, event)
    assert event.to_json() == before
    assert (redacted.event_id, redacted.room_id) == (event.event_id, event.room_id)
    assert redacted.to_json() == redact(version, before)
    assert parse_pdu(version, redacted.raw) == redacted
    assert load_event(version, event.event_id, redacted.raw).content == redacted.content
    if redacted.raw != event.raw:
        assert not content_hash_matches(redacted)


def test_where_redactions_keep_their_target() -> None:
    """A redacted redaction forgets what it redacted, until version 11 moved that into the content and kept it."""
    for number, left in [(3, None), (10, None), (11, "$target"), (12, "$target")]:
        version = ROOM_VERSIONS[str(number)]
        fields: dict[str, Any] = {
            "type": "m.room.redaction",
            "room_id": "!" + "r" * 43 if number == 12 else "!r:domain",
            "sender": "@a:domain",
            "content": {"reason": "spam"},
            "prev_events": [],
            "auth_events": [],
            "depth": 1,
            "origin_server_ts": 1,
            "hashes": {"sha256": ""},
            "signatures": {},
        }
        (fields["content"] if number >= 11 else fields)["redacts"] = "$target"
        event = parse_pdu(version, fields)
        assert event.redacts == "$target"
        assert redact_event(version, event).redacts == left

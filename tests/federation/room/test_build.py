from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.build import build_event
from federation.room.canonical import MAX_INTEGER, canonical_json
from federation.room.event import Event
from federation.room.format import MAX_EVENT_BYTES, BadEvent, EventTooLarge
from federation.room.hashing import content_hash, event_id_of
from federation.room.identifiers import is_room_hash
from federation.room.parse import content_hash_matches, parse_pdu
from federation.room.signing import sign_event, verify_event_signature
from federation.room.versions import ROOM_VERSIONS, EventIdFormat, RoomVersion
from tests.strategies import KEY, SERVER_NAME, build_arguments, room_versions

OLD, STRICT, HASHED = (ROOM_VERSIONS[number] for number in ("1", "11", "12"))


def arguments(version: RoomVersion, **changes: Any) -> dict[str, Any]:
    """What a plain message of this room version is built from."""
    plain: dict[str, Any] = {
        "room_id": "!" + "r" * 43 if version.room_id_is_hash else "!room:domain",
        "type": "m.room.message",
        "sender": "@alice:domain",
        "content": {"body": "hello", "msgtype": "m.text"},
        "prev_events": ["$p:domain"],
        "auth_events": ["$a:domain", "$b:domain"],
        "depth": 7,
        "origin_server_ts": 1_700_000_000_000,
        "server_name": SERVER_NAME,
        "key": KEY,
    }
    if version.cites_with_hashes:
        plain["event_id"] = "$id:domain"
        plain["references"] = {"$p:domain": "P", "$a:domain": "A", "$b:domain": "B"}
    return plain | changes


@given(st.data(), room_versions)
def test_what_is_built_is_parsed_back(data: st.DataObject, version: RoomVersion) -> None:
    event = build_event(version, **data.draw(build_arguments(version)))
    assert parse_pdu(version, event.raw) == event
    assert parse_pdu(version, event.to_json()) == event


@given(st.data(), room_versions)
def test_it_is_built_as_the_specification_says(data: st.DataObject, version: RoomVersion) -> None:
    """The quick way gives what the specification's steps give one by one."""
    event = build_event(version, **data.draw(build_arguments(version)))
    fields = event.to_json()
    fields.pop("signatures")
    fields.pop("hashes")
    fields["hashes"] = {"sha256": content_hash(version, fields)}
    assert event.event_id == event_id_of(version, fields)
    fields = sign_event(version, fields, SERVER_NAME, KEY)
    assert event.raw == canonical_json(fields)
    assert content_hash_matches(event)
    assert verify_event_signature(version, fields, SERVER_NAME, KEY.key_id, KEY.verify_key)


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
def test_the_fields_of_each_version(version: RoomVersion) -> None:
    event = build_event(version, **arguments(version, type="m.room.redaction", state_key="s", redacts="$target"))
    fields = event.to_json()
    assert event.redacts == "$target"
    assert ("redacts" in fields) == (not version.redacts_in_content)
    assert ("redacts" in fields["content"]) == version.redacts_in_content
    assert ("event_id" in fields) == (version.event_id_format is EventIdFormat.DOMAIN)
    assert event.state_key == fields["state_key"] == "s"
    cited = [["$p:domain", {"sha256": "P"}]] if version.cites_with_hashes else ["$p:domain"]
    assert fields["prev_events"] == cited
    assert event.prev_events == ("$p:domain",)
    assert event.auth_events == ("$a:domain", "$b:domain")
    assert "unsigned" not in fields


def test_the_create_event_of_version_12() -> None:
    create = build_event(
        HASHED,
        **arguments(HASHED, room_id=None, type="m.room.create", state_key="", prev_events=[], auth_events=[]),
    )
    assert is_room_hash(create.room_id)
    assert create.room_id[1:] == create.event_id[1:]
    assert "room_id" not in create.to_json()
    member = build_event(HASHED, **arguments(HASHED, room_id=create.room_id, prev_events=[create.event_id]))
    assert member.room_id == create.room_id


@pytest.mark.parametrize(("version", "limit"), [("5", 2**63 - 1), ("6", MAX_INTEGER), ("12", MAX_INTEGER)])
def test_depth_stays_at_its_limit(version: str, limit: int) -> None:
    for depth in (limit - 1, limit, limit + 1, 2**70):
        event = build_event(ROOM_VERSIONS[version], **arguments(ROOM_VERSIONS[version], depth=depth))
        assert event.depth == event.to_json()["depth"] == min(depth, limit)


def test_extra_fields() -> None:
    event = build_event(STRICT, **arguments(STRICT, extra={"origin": "domain"}))
    assert event.to_json()["origin"] == "domain"
    assert content_hash_matches(event)
    for taken in ("hashes", "signatures", "unsigned", "type", "room_id", "event_id"):
        with pytest.raises(BadEvent, match=f"{taken} cannot be given"):
            build_event(STRICT, **arguments(STRICT, extra={taken: {}}))
    with pytest.raises(BadEvent, match="floats"):
        build_event(STRICT, **arguments(STRICT, extra={"a": 0.5}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"type": "x" * 256}, "type is longer"),
        ({"state_key": "é" * 128}, "state_key is longer"),
        ({"content": {"body": "x" * MAX_EVENT_BYTES}}, "bytes, of at most 65536"),
        ({"content": {"body": "x" * (MAX_EVENT_BYTES - 200)}}, "bytes, of at most 65536"),
    ],
)
def test_too_large(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(EventTooLarge, match=why):
        build_event(STRICT, **arguments(STRICT, **changes))


@pytest.mark.parametrize("version", [OLD, STRICT, HASHED], ids=str)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"type": "\ud800"}, "surrogate"),
        ({"content": {"a": 0.5}}, "floats"),
        ({"content": {"a": 2**53}}, "integer"),
        ({"content": {"a": "\ud800"}}, "surrogate"),
        ({"content": {1: 2}}, "key"),
        ({"content": []}, "content is not an object"),
        ({"sender": "alice"}, "user id"),
        ({"room_id": "room"}, "room id"),
        ({"room_id": None}, "room id"),
        ({"prev_events": [f"$p{n}:domain" for n in range(21)]}, "21 entries"),
        ({"auth_events": [f"$a{n}:domain" for n in range(11)]}, "11 entries"),
        ({"depth": -1}, "depth is out of range"),
        ({"origin_server_ts": 0.5}, "origin_server_ts is not an integer"),
    ],
)
def test_what_cannot_be_sent(version: RoomVersion, changes: dict[str, Any], why: str) -> None:
    made = arguments(version, **changes)
    if version.cites_with_hashes:
        made["references"] = dict.fromkeys([*made["prev_events"], *made["auth_events"]], "x")
    with pytest.raises(BadEvent, match=why):
        build_event(version, **made)


def test_deep_content_cannot_be_sent() -> None:
    deep: object = 1
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(BadEvent, match="nested too deep"):
        build_event(STRICT, **arguments(STRICT, content={"a": deep}))


def test_old_versions_want_ids_and_hashes() -> None:
    with pytest.raises(BadEvent, match="event id is not a string"):
        build_event(OLD, **arguments(OLD, event_id=None))
    with pytest.raises(BadEvent, match=r"no reference hash is given for \$p:domain"):
        build_event(OLD, **arguments(OLD, references=None))
    with pytest.raises(BadEvent, match="event_id cannot be chosen"):
        build_event(STRICT, **arguments(STRICT, event_id="$id:domain"))


def test_the_content_given_is_not_changed() -> None:
    content = {"reason": "spam"}
    event: Event = build_event(STRICT, **arguments(STRICT, type="m.room.redaction", content=content, redacts="$target"))
    assert content == {"reason": "spam"}
    assert event.content == {"reason": "spam", "redacts": "$target"}

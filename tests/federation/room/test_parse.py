from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.canonical import MAX_DEPTH, MAX_INTEGER, canonical_json
from federation.room.event import Event
from federation.room.format import MAX_EVENT_BYTES, BadEvent, EventTooLarge, check_format, is_oversized
from federation.room.parse import content_hash_matches, load_event, parse_pdu
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.strategies import loose_json, room_versions, versioned_events

OLD, LOOSE, STRICT, HASHED = (ROOM_VERSIONS[number] for number in ("1", "5", "11", "12"))
KINDS = [OLD, LOOSE, STRICT, HASHED]
"""One version of each event format."""

ROOM_HASH = "!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ"


def pdu(version: RoomVersion, **changes: Any) -> dict[str, Any]:
    """A plain message of this room version; a change to `...` takes the field away."""
    fields: dict[str, Any] = {
        "type": "m.room.message",
        "room_id": ROOM_HASH if version.room_id_is_hash else "!room:domain",
        "sender": "@alice:domain",
        "content": {"body": "hello"},
        "prev_events": [["$p:domain", {"sha256": "x"}]] if version.cites_with_hashes else ["$p"],
        "auth_events": [["$a:domain", {"sha256": "x"}]] if version.cites_with_hashes else ["$a"],
        "depth": 7,
        "origin_server_ts": 1_700_000_000_000,
        "hashes": {"sha256": "x"},
        "signatures": {"domain": {"ed25519:1": "x"}},
    }
    if version.cites_with_hashes:
        fields["event_id"] = "$id:domain"
    fields.update(changes)
    return {name: value for name, value in fields.items() if value is not ...}


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
def test_a_plain_event(version: RoomVersion) -> None:
    fields = pdu(version, unsigned={"age": 5}, state_key="", origin="domain")
    event = parse_pdu(version, fields)
    assert fields == pdu(version, unsigned={"age": 5}, state_key="", origin="domain")
    assert parse_pdu(version, json.dumps(fields).encode()) == event
    assert event.to_json() == pdu(version, state_key="", origin="domain")
    assert event.raw == canonical_json(event.to_json())
    assert (event.room_id, event.type, event.state_key) == (fields["room_id"], "m.room.message", "")
    assert (event.sender, event.depth, event.origin_server_ts) == ("@alice:domain", 7, 1_700_000_000_000)
    assert event.prev_events == (("$p:domain",) if version.cites_with_hashes else ("$p",))
    assert event.auth_events == (("$a:domain",) if version.cites_with_hashes else ("$a",))
    assert event.content == {"body": "hello"}
    assert event.redacts is None
    assert event.is_state
    assert parse_pdu(version, pdu(version)).state_key is None
    assert load_event(version, event.event_id, event.raw).content == event.content


def test_the_create_event_of_version_12_names_its_room() -> None:
    fields = pdu(HASHED, type="m.room.create", state_key="", room_id=..., prev_events=[], auth_events=[])
    event = parse_pdu(HASHED, fields)
    assert event.room_id == "!" + event.event_id[1:]
    assert "room_id" not in event.to_json()
    assert load_event(HASHED, event.event_id, event.raw).room_id == event.room_id


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (pdu(HASHED, room_id=...), "room id is not a string"),
        (pdu(HASHED, room_id="!room:domain"), "room_id is not the hash"),
        (pdu(HASHED, room_id="!short"), "room_id is not the hash"),
        (pdu(HASHED, type="m.room.create", state_key=""), "has a room_id"),
        (pdu(HASHED, type="m.room.create", state_key="", room_id=None), "has a room_id"),
        (pdu(HASHED, type="m.room.create", state_key="x", room_id=...), "another state_key"),
        (pdu(HASHED, type="m.room.create", room_id=...), "another state_key"),
    ],
)
def test_room_ids_of_version_12(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(BadEvent, match=why):
        parse_pdu(HASHED, fields)


HOSTILE: list[tuple[dict[Any, Any], str]] = [
    # What every room version refuses: changes to a plain event, and the reason.
    ({"type": ...}, "type is not a string"),
    ({"type": None}, "type is not a string"),
    ({"type": ["m.room.member"]}, "type is not a string"),
    ({"type": {}}, "type is not a string"),
    ({"type": "x" * 256}, "type is longer than 255 bytes"),
    ({"type": "\ud800"}, "surrogate"),
    ({"state_key": None}, "state_key is not a string"),
    ({"state_key": 0}, "state_key is not a string"),
    ({"state_key": "x" * 256}, "state_key is longer than 255 bytes"),
    ({"state_key": "\udfff"}, "surrogate"),
    ({"sender": ...}, "user id is not a string"),
    ({"sender": "alice"}, "user id does not begin"),
    ({"sender": "@alice"}, "user id has no domain"),
    ({"sender": "@alice:"}, "user id does not name a valid server"),
    ({"sender": "@alice:dom ain"}, "user id does not name a valid server"),
    ({"sender": "@" + "a" * 250 + ":domain"}, "user id is longer"),
    ({"sender": "@al\0ice:domain"}, "NUL"),
    ({"room_id": ...}, "room id is not a string"),
    ({"room_id": 1}, "room id is not a string"),
    ({"room_id": "room"}, "room id does not begin"),
    ({"room_id": "!" + "r" * 250 + ":domain"}, "room id is longer"),
    ({"content": ...}, "content is not an object"),
    ({"content": None}, "content is not an object"),
    ({"content": []}, "content is not an object"),
    ({"content": "{}"}, "content is not an object"),
    ({"content": {"a": "\ud800"}}, "surrogate"),
    ({"content": {"\udc00": 1}}, "surrogate"),
    ({"content": {"a": float("nan")}}, "float"),
    ({"content": {"a": float("inf")}}, "float"),
    ({"content": {"a": b"bytes"}}, "bytes"),
    ({"depth": ...}, "depth is not an integer"),
    ({"depth": None}, "depth is not an integer"),
    ({"depth": "7"}, "depth is not an integer"),
    ({"depth": True}, "depth is not an integer"),
    ({"depth": -1}, "depth is out of range"),
    ({"depth": 2**63}, r"depth is out of range|integer"),
    ({"depth": 10**400}, r"depth is out of range|integer"),
    ({"origin_server_ts": ...}, "origin_server_ts is not an integer"),
    ({"origin_server_ts": "now"}, "origin_server_ts is not an integer"),
    ({"origin_server_ts": False}, "origin_server_ts is not an integer"),
    ({"origin_server_ts": 2**63}, r"origin_server_ts is out of range|integer"),
    ({"prev_events": ...}, "prev_events is not an array"),
    ({"prev_events": None}, "prev_events is not an array"),
    ({"prev_events": "$p"}, "prev_events is not an array"),
    ({"prev_events": {"$p": {}}}, "prev_events is not an array"),
    ({"prev_events": [None]}, r"event id is not a string|not a pair"),
    ({"prev_events": [{}]}, r"event id is not a string|not a pair"),
    ({"prev_events": [[]]}, r"event id is not a string|not a pair"),
    ({"auth_events": ...}, "auth_events is not an array"),
    ({"auth_events": 3}, "auth_events is not an array"),
    ({"auth_events": [1]}, r"event id is not a string|not a pair"),
    ({"hashes": ...}, "hashes has no sha256"),
    ({"hashes": []}, "hashes has no sha256"),
    ({"hashes": {}}, "hashes has no sha256"),
    ({"hashes": {"sha256": None}}, "hashes has no sha256"),
    ({"hashes": {"md5": "x"}}, "hashes has no sha256"),
    ({"signatures": ...}, "signatures is not an object"),
    ({"signatures": None}, "signatures is not an object"),
    ({"signatures": {"domain": "x"}}, "signatures is not an object"),
    ({"signatures": {"domain": ["x"]}}, "signatures is not an object"),
    ({"content": {"body": "x" * MAX_EVENT_BYTES}}, "bytes, of at most 65536"),
    ({"content": {"body": "é" * (MAX_EVENT_BYTES // 2)}}, "bytes, of at most 65536"),
    ({"anything": "x" * MAX_EVENT_BYTES}, "bytes, of at most 65536"),
    ({1: "a key that is no string"}, r"key|not supported"),
]


@pytest.mark.parametrize("changes", [{"type": "é" * 128}, {"state_key": "\U0001f642" * 64}])
def test_characters_and_bytes(changes: dict[str, Any]) -> None:
    """Rooms of before version 11 hold events whose keys have 255 characters, but more bytes. We make none."""
    for version in (STRICT, HASHED):
        with pytest.raises(EventTooLarge):
            parse_pdu(version, pdu(version) | changes)
    for version in (OLD, LOOSE):
        event = parse_pdu(version, pdu(version) | changes)
        assert is_oversized(event.type, event.state_key)
        with pytest.raises(EventTooLarge):
            check_format(version, pdu(version) | changes)
    assert not is_oversized("é" * 127, "x" * 255)


@pytest.mark.parametrize("version", KINDS, ids=str)
@pytest.mark.parametrize(("changes", "why"), HOSTILE)
def test_hostile_events(version: RoomVersion, changes: dict[Any, Any], why: str) -> None:
    fields = pdu(version) | changes
    fields = {name: value for name, value in fields.items() if value is not ...}
    with pytest.raises(BadEvent, match=why) as raised:
        parse_pdu(version, fields)
    assert raised.value.reason == str(raised.value)
    assert isinstance(raised.value, EventTooLarge) == ("255 bytes" in why or "at most 65536" in why)


@pytest.mark.parametrize("version", KINDS, ids=str)
@pytest.mark.parametrize("changes", [changes for changes, why in HOSTILE if why not in ("bytes", r"key|not supported")])
def test_hostile_events_as_bytes(version: RoomVersion, changes: dict[str, Any]) -> None:
    fields = {name: value for name, value in (pdu(version) | changes).items() if value is not ...}
    with pytest.raises(BadEvent):
        parse_pdu(version, json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("version", "changes", "why"),
    [
        *((version, {"prev_events": ["$p", 5]}, "event id is not a string") for version in (LOOSE, STRICT, HASHED)),
        *((version, {"prev_events": ["p"]}, "event id does not begin") for version in (LOOSE, STRICT, HASHED)),
        *((version, {"prev_events": ["$"]}, "only a sigil") for version in (LOOSE, STRICT, HASHED)),
        *((version, {"prev_events": ["$p\0"]}, "NUL") for version in (LOOSE, STRICT, HASHED)),
        *((version, {"auth_events": ["$" + "a" * 255]}, "longer") for version in (LOOSE, STRICT, HASHED)),
        *((version, {"prev_events": ["$p"] * 21}, "21 entries, of at most 20") for version in (LOOSE, STRICT, HASHED)),
        *((version, {"auth_events": ["$a"] * 11}, "11 entries, of at most 10") for version in (LOOSE, STRICT, HASHED)),
        *((version, {"room_id": "!room"}, "names no server") for version in (OLD, LOOSE, STRICT)),
        *((version, {"room_id": "!room:"}, "valid server") for version in (OLD, LOOSE, STRICT)),
        (LOOSE, {"prev_events": [["$p:domain", {"sha256": "x"}]]}, "event id is not a string"),
        (OLD, {"prev_events": ["$p:domain"]}, "not a pair"),
        (OLD, {"prev_events": [["$p:domain"]]}, "not a pair"),
        (OLD, {"prev_events": [["$p:domain", {}, {}]]}, "not a pair"),
        (OLD, {"prev_events": [["$p:domain", "x"]]}, "not a pair"),
        (OLD, {"prev_events": [[{}, {}]]}, "event id is not a string"),
        (OLD, {"auth_events": [["$p:domain", {}]] * 11}, "11 entries"),
        (OLD, {"event_id": ...}, "event id is not a string"),
        (OLD, {"event_id": "$id"}, "names no server"),
        (OLD, {"event_id": "$id:not a server"}, "server name does not name"),
        (OLD, {"event_id": "$" + "i" * 250 + ":domain"}, "longer"),
        (STRICT, {"content": {"a": 0.5}}, "floats"),
        (STRICT, {"content": {"a": [{"b": 1.0}]}}, "floats"),
        (STRICT, {"content": {"a": MAX_INTEGER + 1}}, "integer"),
        (STRICT, {"content": {"a": 2**64}}, "integer"),
        (STRICT, {"extra": 1.5}, "floats"),
        (STRICT, {"depth": MAX_INTEGER + 1}, "integer"),
        (STRICT, {"depth": 7.0}, "floats"),
        (LOOSE, {"depth": 7.0}, "depth is not an integer"),
        (
            STRICT,
            {"type": "m.room.member", "content": {"join_authorised_via_users_server": "nobody"}},
            "user id does not begin",
        ),
        (STRICT, {"type": "m.room.member", "content": {"join_authorised_via_users_server": None}}, "user id is not"),
    ],
)
def test_hostile_events_of_one_kind_of_version(version: RoomVersion, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadEvent, match=why):
        parse_pdu(version, pdu(version, **changes))


@pytest.mark.parametrize("data", [None, 1, "{}", [], [1], b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("version", KINDS, ids=str)
def test_what_is_no_object(version: RoomVersion, data: object) -> None:
    with pytest.raises(BadEvent):
        parse_pdu(version, data)


@pytest.mark.parametrize("version", KINDS, ids=str)
@pytest.mark.parametrize("levels", [MAX_DEPTH, 300, 1000, 5000, 30_000])
def test_deep_content(version: RoomVersion, levels: int) -> None:
    deep: object = 1
    for _ in range(levels):
        deep = [deep]
    with pytest.raises(BadEvent, match="nested too deep"):
        parse_pdu(version, pdu(version, content={"a": deep}))
    text = json.dumps(pdu(version, content={"a": "HERE"})).replace('"HERE"', "[" * levels + "]" * levels)
    with pytest.raises(BadEvent):
        parse_pdu(version, text.encode())


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
def test_what_must_be_accepted(version: RoomVersion) -> None:
    nul = parse_pdu(version, pdu(version, type="a\0b", state_key="\0", content={"\0": "\0"}))
    assert (nul.type, nul.state_key, nul.content) == ("a\0b", "\0", {"\0": "\0"})
    assert load_event(version, nul.event_id, nul.raw).content == {"\0": "\0"}
    longest = parse_pdu(version, pdu(version, type="é" * 127 + "x", state_key="x" * 255, sender="@:domain"))
    assert longest.sender == "@:domain"
    assert parse_pdu(version, pdu(version, depth=0, origin_server_ts=-5)).origin_server_ts == -5
    assert parse_pdu(version, pdu(version, prev_events=[], auth_events=[])).prev_events == ()
    # The hash is compared later, and a server's signatures may be of kinds that we do not know.
    parse_pdu(version, pdu(version, hashes={"sha256": "not base64!"}, signatures={"a": {"quantum:1": [7]}}))
    # Extra fields are covered by the hash: they must stay.
    assert b'"zz":[null]' in parse_pdu(version, pdu(version, zz=[None])).raw


def test_the_size_limit_is_exact_and_leaves_unsigned_out() -> None:
    room = MAX_EVENT_BYTES - len(parse_pdu(STRICT, pdu(STRICT, content={"body": ""})).raw)
    full = pdu(STRICT, content={"body": "x" * room}, unsigned={"prev_content": "x" * 5000})
    assert len(parse_pdu(STRICT, full).raw) == MAX_EVENT_BYTES
    with pytest.raises(EventTooLarge):
        parse_pdu(STRICT, pdu(STRICT, content={"body": "x" * (room + 1)}))


def test_numbers_of_old_rooms() -> None:
    content = {"users": {"@a:b": 2**70, "@b:b": 50.57}, "ban": 1e16, "kick": -(2**65)}
    fields = pdu(LOOSE, type="m.room.power_levels", content=content, depth=2**63 - 1)
    event = parse_pdu(LOOSE, json.dumps(fields).encode())
    assert event.content == content
    assert b'"ban":1e+16,"kick":-36893488147419103232' in event.raw
    loaded = load_event(LOOSE, event.event_id, event.raw)
    assert loaded == event
    assert loaded.content == content
    assert loaded.to_json()["content"] == content
    assert loaded.depth == 2**63 - 1


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
def test_redacts(version: RoomVersion) -> None:
    at_top: dict[str, Any] = {"redacts": "$top", "content": {}}
    inside: dict[str, Any] = {"content": {"redacts": "$inside"}}
    both: dict[str, Any] = {"redacts": "$top", "content": {"redacts": "$inside"}}
    for changes, old, new in [(at_top, "$top", None), (inside, None, "$inside"), (both, "$top", "$inside")]:
        event = parse_pdu(version, pdu(version, type="m.room.redaction", **changes))
        assert event.redacts == (new if version.redacts_in_content else old)
        assert load_event(version, event.event_id, event.raw).redacts == event.redacts
        assert parse_pdu(version, pdu(version, type="m.room.other", **changes)).redacts is None
    odd: Any
    for odd in (None, True, 5, ["$x"], {}, "", "$", "x", "$\0", "$" + "x" * 255):
        event = parse_pdu(version, pdu(version, type="m.room.redaction", redacts=odd, content={"redacts": odd}))
        assert event.redacts is None
        assert load_event(version, event.event_id, event.raw).redacts is None


@given(versioned_events())
def test_what_is_stored_is_loaded(case: tuple[RoomVersion, Event]) -> None:
    version, event = case
    loaded = load_event(version, event.event_id, event.raw)
    assert loaded.content == event.content
    assert loaded.content_json == canonical_json(event.content)
    assert loaded == event
    assert content_hash_matches(loaded)


@given(versioned_events(), st.sampled_from(["content", "unsigned", "org.example", "depth", "hashes"]))
def test_the_content_hash_covers_all_but_unsigned(case: tuple[RoomVersion, Event], name: str) -> None:
    version, event = case
    fields = event.to_json()
    match name:
        case "content":
            fields["content"]["one more"] = 1
        case "depth":
            fields["depth"] = fields["depth"] + 1 if fields["depth"] < MAX_INTEGER else 0
        case "hashes":
            fields["hashes"]["sha256"] = "A" * 43
        case _:
            fields[name] = {"a": 1}
    assert content_hash_matches(parse_pdu(version, fields)) == (name == "unsigned")


@given(room_versions, st.data())
def test_one_field_replaced_by_anything(version: RoomVersion, data: st.DataObject) -> None:
    """Whatever stands in a field, the answer is an event that loads again, or `BadEvent`."""
    fields = pdu(version, type="m.room.redaction", redacts="$x")
    name = data.draw(st.sampled_from([*fields, "state_key", "unsigned"]))
    fields[name] = data.draw(loose_json)
    before = copy.deepcopy(fields)
    try:
        event = parse_pdu(version, fields)
    except BadEvent:
        return
    assert fields == before
    loaded = load_event(version, event.event_id, event.raw)
    assert (loaded.content, loaded) == (event.content, event)
    assert event.to_json() == {key: value for key, value in before.items() if key != "unsigned"}


@given(room_versions, st.binary(max_size=200))
def test_any_bytes(version: RoomVersion, data: bytes) -> None:
    with pytest.raises(BadEvent):
        parse_pdu(version, data)


@given(versioned_events(), st.data())
def test_damaged_bytes(case: tuple[RoomVersion, Event], data: st.DataObject) -> None:
    """An event with a few bytes changed on the way is refused, or is another event, or fails its hash."""
    version, event = case
    damaged = bytearray(event.raw)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_pdu(version, bytes(damaged))
    except BadEvent:
        return
    if orjson.loads(parsed.raw) == orjson.loads(event.raw):
        return
    if content_hash_matches(parsed):
        changed = {name for name, value in parsed.to_json().items() if event.to_json().get(name) != value}
        assert changed | (event.to_json().keys() - parsed.to_json().keys()) <= {"signatures", "hashes", "unsigned"}

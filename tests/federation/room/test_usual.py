"""The short way to an event gives what the long way gives, or nothing."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.build import build_event
from federation.room.canonical import MAX_DEPTH, MAX_INTEGER
from federation.room.format import MAX_EVENT_BYTES, BadEvent
from federation.room.parse import read_pdu
from federation.room.pdu import Pdu
from federation.room.usual import read_usual
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.federation.room.test_parse import HOSTILE, pdu
from tests.strategies import build_arguments, event_contents, strict_json

STRICT = [version for version in ROOM_VERSIONS.values() if version.strict_json]


def long_way(version: RoomVersion, data: bytes) -> Pdu | None:
    """Objects go no other."""
    try:
        return read_pdu(version, json.loads(data))
    except BadEvent:
        return None


def agrees(version: RoomVersion, data: bytes) -> Pdu | None:
    """What the short way gives, once it was compared."""
    short = read_usual(version, data)
    if short is not None:
        long = long_way(version, data)
        assert long is not None
        assert short == long
        assert short.event.content == long.event.content
    return short


@pytest.mark.parametrize("version", STRICT, ids=str)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"state_key": ""},
        {"unsigned": {"age": 1.5}},
        {"type": "m.room.member", "state_key": "@alice:domain", "content": {"membership": "join", "x": ["é", "\x7f"]}},
        {"type": "m.room.member", "content": {"join_authorised_via_users_server": "@bob:domain"}},
        {"type": "m.room.redaction", "content": {"redacts": "$" + "a" * 43}},
        {"content": {"body": '\u2028\U0001f642\\"/\x00\x1f', "\uffff": 1, "\U00010000": -0}},
        {"signatures": {"b": {"ed25519:b": "x", "ed25519:a": "y"}, "a": {}}, "hashes": {"z": "1", "sha256": "x"}},
        {"depth": MAX_INTEGER, "origin_server_ts": -MAX_INTEGER},
        {"prev_events": ["$p"] * 20, "auth_events": ["$a"] * 10},
    ],
)
@pytest.mark.parametrize("is_ascii", [False, True])
def test_usual_events(version: RoomVersion, changes: dict[str, Any], is_ascii: bool) -> None:
    assert agrees(version, json.dumps(pdu(version, **changes), ensure_ascii=is_ascii).encode()) is not None


@pytest.mark.parametrize("version", STRICT, ids=str)
@pytest.mark.parametrize(
    "changes",
    [
        *(changes for changes, why in HOSTILE if why not in ("bytes", r"key|not supported")),
        {"type": "é"},
        {"state_key": "é" * 128},
        {"origin": "domain"},
        {"signatures": {}},
        {"signatures": {"domain": {"ed25519:1": 1.5}}},
        {"content": {"body": "x" * (MAX_EVENT_BYTES - 500)}},
        {"content": json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)},
        {"content": {"a": json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)}},
        {"content": {"a": MAX_INTEGER + 1}},
        {"content": {"a": 2**70}},
        {"content": {"a": 1.0}},
        {"depth": 7.0},
        {"depth": MAX_INTEGER + 1},
        {"room_id": "!room"},
        {"type": "m.room.create", "state_key": ""},
        {"type": "m.room.create", "state_key": "", "room_id": ...},
        {"type": "m.room.member", "content": {"join_authorised_via_users_server": "nobody"}},
    ],
)
def test_unusual_events(version: RoomVersion, changes: dict[str, Any]) -> None:
    agrees(version, json.dumps(pdu(version, **changes)).encode())


@pytest.mark.parametrize("version", STRICT, ids=str)
def test_of_a_repeated_key_the_last_value_counts(version: RoomVersion) -> None:
    data = json.dumps(pdu(version)).encode()
    for more in (b'"depth":8', b'"content":{"a":1,"a":{"b":2,"b":3}}', b'"type":"x"', b'"hashes":{"sha256":"y"}'):
        assert agrees(version, data[:-1] + b"," + more + b"}") is not None
        assert agrees(version, b"{" + more + b"," + data[1:]) is not None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"content":' * 10_000])
def test_what_is_no_object(data: bytes) -> None:
    assert read_usual(STRICT[0], data) is None


ODD: list[Any] = [
    *(1.5, 1e3, 2**53, -(2**53), 2**70, 0, -1, None, True, "", "\0", "é", "\ud800", [], {}, [[1.0]], {"a": [1e3]}),
    *({"a": 2**53}, "$x", "$" + "b" * 43, ["$a", 1], [["$a", {}]], ["$a"], "@:x", "@a:b", "!r:d", {"sha256": "x"}),
    json.loads("[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2)),
]


def damage(fields: dict[str, Any], random: Random) -> None:
    """Change, add or take away something anywhere."""
    at: Any = fields
    while True:
        key = random.choice([*at, "zz"]) if isinstance(at, dict) else random.randrange(len(at))
        inner = at.get(key) if isinstance(at, dict) else at[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.6:
            at = inner
        elif isinstance(at, dict) and key in at and random.random() < 0.2:
            del at[key]
            return
        else:
            at[key] = copy.deepcopy(random.choice(ODD))
            return


@given(st.data(), st.sampled_from(STRICT), st.integers(0, 2), st.booleans(), st.randoms(use_true_random=False))
def test_both_ways_agree(
    data: st.DataObject, version: RoomVersion, damages: int, is_ascii: bool, random: Random
) -> None:
    fields = build_event(version, **data.draw(build_arguments(version))).to_json()
    fields["unsigned"] = copy.deepcopy(data.draw(strict_json | event_contents))
    names = list(fields)
    random.shuffle(names)
    fields = {name: fields[name] for name in names}
    for _ in range(damages):
        damage(fields, random)
    agrees(version, json.dumps(fields, ensure_ascii=is_ascii).encode(errors="surrogatepass"))

"""What servers say of their keys: honest responses, and hostile ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.keys.response import (
    MAX_KEYS,
    MOST_VALID_MS,
    BadKeyResponse,
    KeyResponse,
    ServerKey,
    is_key_id,
    read_key_response,
    signed_by,
)
from federation.room.canonical import MAX_INTEGER, canonical_json
from federation.room.hashing import encode_base64
from federation.room.signing import SigningKey, sign_json
from tests.federation.doubles import START_MS, Calendar
from tests.federation.keys.signers import DAY_MS, Signer
from tests.strategies import json_text, loose_json

NAME = "peer.example"
NO_TIMES: list[dict[str, Any]] = [{}, *({"expired_ts": wrong} for wrong in (None, "5", -1, 2**60, True, 1.5))]


@pytest.fixture
def signer() -> Signer:
    return Signer(NAME, Calendar())


def read(value: Any) -> KeyResponse:
    return read_key_response(value, NAME, START_MS)


def test_an_honest_response(signer: Signer) -> None:
    signer.old["ed25519:old"] = (old := SigningKey.generate("old"), 5)
    signer.more = {"new.member": {"a": [1]}}
    response = read(signer.published())
    assert response.keys == (
        ServerKey(NAME, "ed25519:1", signer.key.verify_key, START_MS + DAY_MS),
        ServerKey(NAME, "ed25519:old", old.verify_key, 5),
    )
    assert (response.valid_until_ts, response.fetched_ts) == (START_MS + DAY_MS, START_MS)
    assert response.body == canonical_json(signer.published())


def test_no_response_is_valid_for_longer_than_a_week(signer: Signer) -> None:
    signer.valid_ms = 1000 * DAY_MS
    response = read(signer.published())
    assert response.valid_until_ts == START_MS + MOST_VALID_MS
    assert response.keys[0].valid_until_ts == START_MS + MOST_VALID_MS


def test_a_response_may_have_ended_already(signer: Signer) -> None:
    """It still tells of the past."""
    signer.valid_ms = -DAY_MS
    assert read(signer.published()).keys[0].valid_until_ts == START_MS - DAY_MS


def test_an_id_in_both_lists_is_out_of_use(signer: Signer) -> None:
    signer.old[signer.key.key_id] = (signer.key, 5)
    assert read(signer.published()).keys == (ServerKey(NAME, "ed25519:1", signer.key.verify_key, 5),)


@pytest.mark.parametrize(
    "entries",
    [
        {"ed25519:x": {"key": "AAAA"}},
        {"ed25519:x": {"key": "?" * 43}},
        {"ed25519:x": {"key": 5}},
        {"ed25519:x": {}},
        {"ed25519:x": "AAAA"},
        {"ed25519:": {"key": "A" * 43}},
        {"ed25519:" + "x" * 200: {"key": "A" * 43}},
        {"ed25519:\0": {"key": "A" * 43}},
        {"ed25519:\n": {"key": "A" * 43}},
        {"ed25519:ä": {"key": "A" * 43}},
        {"rsa:x": {"key": "A" * 43}},
        {"x": {"key": "A" * 43}},
    ],
)
def test_keys_that_make_no_sense_are_left_out(signer: Signer, entries: dict[str, Any]) -> None:
    good = {signer.key.key_id: {"key": encode_base64(signer.key.verify_key)}}
    signer.more = {"verify_keys": {**good, **entries}, "old_verify_keys": entries}
    assert [key.key_id for key in read(signer.published()).keys] == [signer.key.key_id]


@pytest.mark.parametrize("old", [None, [], "x", *({"ed25519:o": {"key": "A" * 43, **more}} for more in NO_TIMES)])
def test_old_keys_that_make_no_sense_are_left_out(signer: Signer, old: Any) -> None:
    signer.more = {"old_verify_keys": old}
    assert [key.key_id for key in read(signer.published()).keys] == [signer.key.key_id]


def _without(member: str) -> Callable[[Signer], Any]:
    return lambda signer: {name: value for name, value in signer.published().items() if name != member}


def _with(**members: Any) -> Callable[[Signer], Any]:
    """Changed after it was signed."""
    return lambda signer: {**signer.published(), **members}


def _signed_with(**members: Any) -> Callable[[Signer], Any]:
    def make(signer: Signer) -> Any:
        signer.more = members
        return signer.published()

    return make


def _signed_by_another_server(signer: Signer) -> Any:
    value = _without("signatures")(signer)
    return sign_json(value, "other.example", signer.key)


def _signed_by_another_key_of_that_name(signer: Signer) -> Any:
    return sign_json(_without("signatures")(signer), NAME, SigningKey.generate("1"))


def _signed_by_an_old_key_only(signer: Signer) -> Any:
    signer.old["ed25519:old"] = (old := SigningKey.generate("old"), 5)
    return sign_json(_without("signatures")(signer), NAME, old)


def _signed_by_a_key_that_is_not_listed(signer: Signer) -> Any:
    return sign_json(_without("signatures")(signer), NAME, SigningKey.generate("2"))


def _one_good_signature_and_one_wrong(signer: Signer) -> Any:
    other = SigningKey.generate("2")
    keys = {key.key_id: {"key": encode_base64(key.verify_key)} for key in (signer.key, other)}
    signer.more = {"verify_keys": keys}
    return sign_json(signer.published(), NAME, SigningKey.generate("2"))


def _too_many_keys(signer: Signer) -> Any:
    entry = {"key": encode_base64(signer.key.verify_key), "expired_ts": 5}
    signer.more = {"old_verify_keys": {f"ed25519:{number}x": entry for number in range(MAX_KEYS)}}
    return signer.published()


HOSTILE: dict[str, Callable[[Signer], Any]] = {
    "no object": lambda signer: [signer.published()],
    "nothing": lambda signer: None,
    "no name": _without("server_name"),
    "another name": _with(server_name="other.example"),
    "another name, signed": _signed_with(server_name="other.example"),
    "a name that is none": _signed_with(server_name=5),
    "no time": _without("valid_until_ts"),
    "a time that is text": _signed_with(valid_until_ts="5"),
    "a time that is true": _signed_with(valid_until_ts=True),
    "a time before all time": _signed_with(valid_until_ts=-1),
    "a time past all numbers": _signed_with(valid_until_ts=MAX_INTEGER + 1),
    "a time with a fraction": _signed_with(valid_until_ts=1.5),
    "a longer time than signed": _with(valid_until_ts=START_MS + 2 * DAY_MS),
    "no keys": _signed_with(verify_keys={}),
    "keys that are a list": _signed_with(verify_keys=[]),
    "keys of nobody": _with(verify_keys={"ed25519:1": {"key": "A" * 43}}),
    "no signatures": _without("signatures"),
    "signatures that are a list": _with(signatures=[]),
    "signatures of nobody": _with(signatures={NAME: {}}),
    "signatures that are text": _with(signatures={NAME: "x"}),
    "a signature that is a number": _with(signatures={NAME: {"ed25519:1": 5}}),
    "a signature cut": _with(signatures={NAME: {"ed25519:1": "AAAA"}}),
    "signed by another server": _signed_by_another_server,
    "signed by another key of that name": _signed_by_another_key_of_that_name,
    "signed by an old key only": _signed_by_an_old_key_only,
    "signed by a key that is not listed": _signed_by_a_key_that_is_not_listed,
    "one good signature and one wrong": _one_good_signature_and_one_wrong,
    "too many keys": _too_many_keys,
    "half a character": _with(x="\ud800"),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_hostile_responses(signer: Signer, make: Callable[[Signer], Any]) -> None:
    with pytest.raises(BadKeyResponse):
        read(make(signer))


def test_one_key_that_signs_is_enough(signer: Signer) -> None:
    """COMPAT servers that publish a second key before they sign by it."""
    keys = {key.key_id: {"key": encode_base64(key.verify_key)} for key in (signer.key, SigningKey.generate("2"))}
    signer.more = {"verify_keys": keys}
    assert [key.key_id for key in read(signer.published()).keys] == ["ed25519:1", "ed25519:2"]


members = st.sampled_from(["server_name", "verify_keys", "old_verify_keys", "valid_until_ts", "signatures", "x"])


@given(st.dictionaries(members, loose_json), st.booleans())
def test_no_response_breaks_it(changes: dict[str, Any], signed: bool) -> None:
    value = {**Signer(NAME, Calendar()).published(), **changes}
    if signed and isinstance(changes.get("signatures", {}), dict):
        value = {name: member for name, member in value.items() if name != "signatures"}
        value = sign_json(value, NAME, SigningKey.generate("1"))
    try:
        response = read(value)
    except BadKeyResponse:
        return
    assert all(key.server_name == NAME and len(key.verify_key) == 32 for key in response.keys)


@given(loose_json | st.dictionaries(st.just("signatures"), loose_json))
def test_who_has_signed(value: Any) -> None:
    if isinstance(value, dict):
        assert all(is_key_id(key_id) for key_id in signed_by(value, NAME))


@given(json_text)
def test_key_ids_can_be_stored(text: str) -> None:
    if is_key_id(text):
        assert text.isascii()
        assert "\0" not in text

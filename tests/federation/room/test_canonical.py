from __future__ import annotations

import json

import canonicaljson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    BadJson,
    canonical_json,
    canonical_json_loose,
    check_depth,
    check_strict,
    parse_json,
)
from tests.strategies import loose_json, strict_json

# https://spec.matrix.org/v1.19/appendices/#examples
SPEC_EXAMPLES = [
    ("{}", "{}"),
    ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
    ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    ('{"b":"2","a":"1"}', '{"a":"1","b":"2"}'),
    (
        """
        {
            "auth": {
                "success": true,
                "mxid": "@john.doe:example.com",
                "profile": {
                    "display_name": "John Doe",
                    "three_pids": [
                        {"medium": "email", "address": "john.doe@example.org"},
                        {"medium": "msisdn", "address": "123456789"}
                    ]
                }
            }
        }
        """,
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
        '[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},'
        '"success":true}}',
    ),
    ('{"a": "日本語"}', '{"a":"日本語"}'),
    ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
    (r'{"a": "\u65E5"}', '{"a":"日"}'),
    ('{"a": null}', '{"a":null}'),
    ('{"a": -0, "b": 10000000000}', '{"a":0,"b":10000000000}'),
]


@pytest.mark.parametrize(("text", "canonical"), SPEC_EXAMPLES)
def test_the_examples_of_the_specification(text: str, canonical: str) -> None:
    value = parse_json(text.encode())
    check_strict(value)
    assert canonical_json(value) == canonical.encode()
    assert canonical_json_loose(parse_json(text.encode(), exact=True)) == canonical.encode()


def test_exponents_are_floats() -> None:
    """The specification's last example writes 10000000000 as 1e10. Servers agree that this is a float: refused in
    strict rooms, and in old ones written as Python does, since that is what everybody's hashes are made of."""
    with pytest.raises(BadJson, match="floats"):
        check_strict(parse_json(b'{"b": 1e10}'))
    assert canonical_json_loose(parse_json(b'{"b": 1e10}', exact=True)) == b'{"b":10000000000.0}'


@given(strict_json)
def test_the_fast_form_is_the_reference_form(value: object) -> None:
    check_strict(value)
    assert canonical_json(value) == canonicaljson.encode_canonical_json(value)


@given(st.characters(exclude_categories=["Cs"]), st.characters(exclude_categories=["Cs"]))
def test_every_character_is_written_and_sorted_alike(first: str, second: str) -> None:
    value = {first: second, second: first, first + second: 1}
    assert canonical_json(value) == canonicaljson.encode_canonical_json(value)


def test_every_ascii_character_is_escaped_alike() -> None:
    value = {chr(code): chr(code) for code in range(0x100)}
    assert canonical_json(value) == canonicaljson.encode_canonical_json(value)


@given(strict_json)
def test_parsing_gives_the_value_back(value: object) -> None:
    assert parse_json(canonical_json(value)) == value
    assert parse_json(canonical_json(value), exact=True) == value


@given(loose_json)
def test_loose_values_survive_an_exact_round_trip(value: object) -> None:
    data = canonical_json_loose(value)
    assert data == canonicaljson.encode_canonical_json(value)
    assert canonical_json_loose(parse_json(data, exact=True)) == data


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1.0, "floats"),
        ([{"a": [0.5]}], "floats"),
        (float("nan"), "floats"),
        (MAX_INTEGER + 1, "integer"),
        (-MAX_INTEGER - 1, "integer"),
        ({"a": 2**64}, "integer"),
        ({"a": 10**400}, "integer"),
        ({1: "a"}, "key"),
        ({"a": b"bytes"}, "bytes"),
        ({"a": {1, 2}}, "set"),
    ],
)
def test_strict_json_refuses(value: object, why: str) -> None:
    with pytest.raises(BadJson, match=why):
        check_strict(value)


def test_strict_json_allows_the_greatest_integers() -> None:
    check_strict([MAX_INTEGER, -MAX_INTEGER, True, False, None, ("a", 1)])


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, {1: 2}, object(), {"a": b""}])
def test_what_cannot_be_written(value: object) -> None:
    with pytest.raises(BadJson):
        canonical_json(value)


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, float("nan"), float("inf"), object(), {1: 2, "a": 3}])
def test_what_cannot_be_written_even_loosely(value: object) -> None:
    with pytest.raises(BadJson):
        canonical_json_loose(value)


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"1" + b"]}" * (levels // 2)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 2, 1000, 1024, 10_000, 1_000_000])
def test_deep_nesting_is_bad_json(levels: int, exact: bool) -> None:
    with pytest.raises(BadJson, match=r"nested too deep|not JSON"):
        parse_json(nested(levels), exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_nesting_up_to_the_limit(exact: bool) -> None:
    value = parse_json(nested(MAX_DEPTH), exact=exact)
    check_strict(value)
    check_depth(value)
    assert canonical_json(value) == canonical_json_loose(value) == nested(MAX_DEPTH)
    with pytest.raises(BadJson):
        check_strict([value])
    with pytest.raises(BadJson):
        check_depth([value])
    many_but_flat = b"[" + b"[],{}," * MAX_DEPTH + b"1]"
    assert len(parse_json(many_but_flat, exact=exact)) == 2 * MAX_DEPTH + 1


def test_a_value_too_deep_for_pythons_stack() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    for write in (canonical_json, canonical_json_loose, check_strict, check_depth):
        with pytest.raises(BadJson):
            write(value)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"01",
        b"+1",
        b"1.",
        b'"\x01"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b"[" + b"1" * 5000 + b"]x",
        b"\0",
        b"{} {}",
    ],
)
def test_bad_json(data: bytes, exact: bool) -> None:
    with pytest.raises(BadJson):
        parse_json(data, exact=exact)


def test_what_exact_means() -> None:
    huge = [2**63, -(2**63) - 1, 2**64, 10**40]
    data = json.dumps(huge).encode()
    assert parse_json(data, exact=True) == huge
    assert isinstance(parse_json(data)[2], float)
    assert canonical_json_loose(parse_json(data, exact=True)) == data.replace(b" ", b"")


@pytest.mark.parametrize("data", [rb'"\ud800"', rb'{"\udc00":1}', rb'"\udc00\ud800"'])
def test_lone_surrogates_never_reach_a_hash(data: bytes) -> None:
    with pytest.raises(BadJson):
        canonical_json(parse_json(data))
    with pytest.raises(BadJson):
        canonical_json_loose(parse_json(data, exact=True))


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.eE-\\ud truefalsn\0', max_size=40).map(str.encode))
def test_no_bytes_make_parsing_fail_otherwise(data: bytes) -> None:
    for exact in (False, True):
        try:
            value = parse_json(data, exact=exact)
            check_strict(value)
            canonical_json(value)
        except BadJson:
            pass

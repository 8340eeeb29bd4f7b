"""Path, query and body to asks: each value from its one place, each mistake by its name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.errors import MatrixError
from homeserver.http.asks import MAX_DEPTH, AskReader, parse_object, parse_query


class Ask(msgspec.Struct, rename={"from_": "from"}):
    room_id: str
    kind: Literal["a", "b"] = "a"
    from_: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=0)] = 10
    backwards: bool = False
    via: list[str] = []
    typing: bool = False
    timeout: int | None = None
    users: dict[str, int] = {}
    sort: Literal["up", "down"] | None = None


READER = AskReader(Ask, path=["room_id"], query=["from", "limit", "backwards", "via", "kind", "sort"])


def read(query: str = "", body: bytes = b"") -> Any:
    return READER.read(["!a"], query, body)


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("", b"", {}),
        ("from=s1_2&limit=5", b"", {"from_": "s1_2", "limit": 5}),
        ("backwards=true&via=a.org&via=b.org", b"{}", {"backwards": True, "via": ["a.org", "b.org"]}),
        ("via=a+b%20c%2Bd", b"", {"via": ["a b c+d"]}),
        ("from=null&sort=up", b"", {"from_": "null", "sort": "up"}),
        ("kind=b&unknown=1&&=&x", b"", {"kind": "b"}),
        ("", b'{"typing":true,"timeout":null}', {"typing": True}),
        ("", b'{"users":{"@a:b":50}}', {"users": {"@a:b": 50}}),
        # Neither path nor query can be put into the body.
        ("", b'{"room_id":"!other","limit":99,"from":"x","via":["z"],"unknown":1}', {}),
    ],
)
def test_read(query: str, body: bytes, expected: dict[str, Any]) -> None:
    assert read(query, body) == Ask("!a", **expected)


DEEP = b'{"users":' + b"[" * 5000 + b"]" * 5000 + b"}"


@pytest.mark.parametrize(
    ("query", "body", "errcode", "names"),
    [
        ("limit=many", b"", "M_INVALID_PARAM", "'limit'"),
        ("limit=", b"", "M_INVALID_PARAM", "'limit'"),
        ("limit=-1", b"", "M_INVALID_PARAM", "'limit'"),
        ("limit=99999999999999999999999999", b"", "M_INVALID_PARAM", "'limit'"),
        ("backwards=perhaps", b"", "M_INVALID_PARAM", "'backwards'"),
        ("kind=c", b"", "M_INVALID_PARAM", "'kind'"),
        ("sort=null", b"", "M_INVALID_PARAM", "'sort'"),
        ("from=%ff", b"", "M_INVALID_PARAM", "UTF-8"),
        ("", b'{"typing":"yes"}', "M_BAD_JSON", "'typing'"),
        ("", b'{"timeout":"5"}', "M_BAD_JSON", "'timeout'"),
        ("", b'{"timeout":1e30}', "M_BAD_JSON", "'timeout'"),
        ("", b'{"timeout":9007199254740992}', "M_BAD_JSON", "'timeout'"),
        ("", b'{"timeout":1.5}', "M_BAD_JSON", "'timeout'"),
        ("", b'{"users":{"@a:b":"50"}}', "M_BAD_JSON", "'users["),
        ("", b"[]", "M_BAD_JSON", "object"),
        ("", b"null", "M_BAD_JSON", "object"),
        ("", b"1", "M_BAD_JSON", "object"),
        ("", b"{", "M_NOT_JSON", ""),
        ("", b"{'a':1}", "M_NOT_JSON", ""),
        ("", b"hello", "M_NOT_JSON", ""),
        ("", b"\xff\xfe{}", "M_NOT_JSON", ""),
        ("", b'{"a":"\xff"}', "M_NOT_JSON", ""),
        ("", b'{"a":"\xed\xa0\x80"}', "M_NOT_JSON", ""),
        ("", b'{"a":NaN}', "M_NOT_JSON", ""),
        ("", b'{"users":' + b'{"a":' * 200 + b"1" + b"}" * 201, "M_BAD_JSON", "deep"),
        ("", DEEP, "M_NOT_JSON", ""),
    ],
)
def test_refuse(query: str, body: bytes, errcode: str, names: str) -> None:
    with pytest.raises(MatrixError) as caught:
        read(query, body)
    assert (caught.value.status, caught.value.errcode) == (400, errcode)
    assert names in caught.value.error


class Required(msgspec.Struct):
    token: str
    name: str


def test_missing() -> None:
    reader = AskReader(Required, path=[], query=["token"])
    with pytest.raises(MatrixError, match=r"M_MISSING_PARAM.*'token'"):
        reader.read([], "", b'{"name":"x"}')
    with pytest.raises(MatrixError, match=r"M_MISSING_PARAM.*'name'"):
        reader.read([], "token=1", b"{}")


class Content(msgspec.Struct):
    txn_id: str
    content: dict[str, Any]


class Inner(msgspec.Struct):
    body: str


class Typed(msgspec.Struct):
    inner: Inner


class Bytes(msgspec.Struct):
    data: bytes


class OnlyQuery(msgspec.Struct):
    room_id: str
    limit: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None


def test_constraints_hold_without_a_body() -> None:
    reader = AskReader(OnlyQuery, path=["room_id"], query=["limit"])
    assert reader.read(["!a"], "limit=100", b"") == OnlyQuery("!a", 100)
    for limit in ("-1", "101", "9007199254740992", "-9999999999999999999999"):
        with pytest.raises(MatrixError, match=r"M_INVALID_PARAM.*'limit'"):
            reader.read(["!a"], f"limit={limit}", b"")


def test_whole_body() -> None:
    content = AskReader(Content, path=["txn_id"], body="content")
    assert content.read(["t1"], "", b'{"txn_id":5,"a":[1.5]}') == Content("t1", {"txn_id": 5, "a": [1.5]})
    assert content.read(["t1"], "", b"") == Content("t1", {})
    with pytest.raises(MatrixError, match=r"M_BAD_JSON"):
        content.read(["t1"], "", b"[]")
    typed = AskReader(Typed, path=[], body="inner")
    assert typed.read([], "", b'{"body":"x"}') == Typed(Inner("x"))
    with pytest.raises(MatrixError, match=r"M_BAD_JSON.*'body'"):
        typed.read([], "", b'{"body":1}')
    with pytest.raises(MatrixError, match=r"M_MISSING_PARAM.*'body'"):
        typed.read([], "", b"{}")
    assert AskReader(Bytes, path=[], body="data").read([], "", b"\xff\x00") == Bytes(b"\xff\x00")


def test_routes_without_fields_still_want_json() -> None:
    class Empty(msgspec.Struct):
        room_id: str

    reader = AskReader(Empty, path=["room_id"])
    assert reader.read(["!a"], "", b"") == Empty("!a")
    with pytest.raises(MatrixError, match=r"M_NOT_JSON"):
        reader.read(["!a"], "", b"not json")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_bounded_exactly(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(levels: int) -> bytes:
        inner = levels - 1
        return b'{"x":' + opening * inner + b"0" * (opening != b"[") + closing * inner + b"}"

    parse_object(nested(MAX_DEPTH))
    with pytest.raises(MatrixError, match="deep"):
        parse_object(nested(MAX_DEPTH + 1))


def test_broad_is_not_deep() -> None:
    assert parse_object(b'{"a":[' + b"[]," * 5000 + b'"{[{["]}') is not None


@given(st.binary())
def test_parse_object_never_fails_otherwise(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body), dict)
    except MatrixError as error:
        assert error.errcode in ("M_NOT_JSON", "M_BAD_JSON")


@given(st.text(st.characters(max_codepoint=255)))
def test_any_query_is_parsed_or_refused(query: str) -> None:
    try:
        assert all(values for values in parse_query(query).values())
    except MatrixError as error:
        assert error.errcode == "M_INVALID_PARAM"

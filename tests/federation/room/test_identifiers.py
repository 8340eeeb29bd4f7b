from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.identifiers import (
    InvalidIdentifier,
    is_room_hash,
    localpart_of,
    parse_event_id,
    parse_new_user_localpart,
    parse_room_alias,
    parse_room_id,
    parse_server_name,
    parse_user_id,
    server_of,
)
from tests.strategies import (
    domain_room_ids,
    hash_room_ids,
    new_localparts,
    room_aliases,
    server_names,
    user_ids,
)

PARSERS: list[Callable[[object], str]] = [
    parse_server_name,
    parse_user_id,
    parse_new_user_localpart,
    parse_room_id,
    parse_event_id,
    parse_room_alias,
]


@pytest.mark.parametrize(
    "name",
    [
        # The examples of https://spec.matrix.org/v1.19/appendices/#server-name
        "matrix.org",
        "matrix.org:8888",
        "1.2.3.4",
        "1.2.3.4:1234",
        "[1234:5678::abcd]",
        "[1234:5678::abcd]:5678",
        # And others that the grammar allows.
        "localhost",
        "MATRIX.org",
        "a-b.example",
        "1.2.3.4.5",
        "x" * 255,
    ],
)
def test_server_names(name: str) -> None:
    assert parse_server_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":80",
        "example.org:",
        "example.org:123456",
        "example.org:80a",
        "example.org:\uff18\uff10",
        "example.org:80:80",
        "exa mple.org",
        "under_score.org",
        "example.org/",
        "exämple.org",
        "example.org\n",
        "exam\0ple.org",
        "\ud800.org",
        "256.1.1.1",
        "[1234:5678]",
        "[::g]",
        "[::1",
        "::1",
        "x" * 256,
    ],
)
def test_bad_server_names(name: str) -> None:
    with pytest.raises(InvalidIdentifier):
        parse_server_name(name)
    with pytest.raises(InvalidIdentifier):
        parse_user_id("@alice:" + name)


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (parse_user_id, "alice:example.org", "does not begin with '@'"),
        (parse_user_id, "@alice", "has no domain"),
        (parse_user_id, "@", "is only a sigil"),
        (parse_user_id, "", "does not begin with '@'"),
        (parse_user_id, "@al\0ice:example.org", "contains NUL"),
        (parse_user_id, "@al\ud800ice:example.org", "contains a lone surrogate"),
        (parse_user_id, "@" + "a" * 243 + ":example.org", "is longer than 255 bytes"),
        (parse_user_id, "@" + "é" * 122 + ":example.org", "is longer than 255 bytes"),
        (parse_user_id, 7, "is not a string"),
        (parse_room_id, "!:example.org", "has nothing between"),
        (parse_room_id, "!", "is only a sigil"),
        (parse_room_id, "#room:example.org", "does not begin with '!'"),
        (parse_room_id, None, "is not a string"),
        (parse_room_alias, "#:example.org", "has nothing between"),
        (parse_room_alias, "#room", "has no domain"),
        (parse_event_id, "$", "is only a sigil"),
        (parse_event_id, "$" + "a" * 255, "is longer than 255 bytes"),
        (parse_event_id, ["$a"], "is not a string"),
    ],
)
def test_what_is_wrong_is_named(parse: Callable[[object], str], text: object, reason: str) -> None:
    with pytest.raises(InvalidIdentifier, match=reason) as raised:
        parse(text)
    assert str(raised.value).startswith(raised.value.what)


def test_an_identifier_may_have_exactly_255_bytes() -> None:
    assert parse_user_id("@" + "a" * 242 + ":example.org")
    assert parse_event_id("$" + "a" * 254)


def test_historical_user_ids() -> None:
    for user_id in ("@:example.org", "@Ünïcode and spaces:example.org", "@\x01:example.org"):
        assert parse_user_id(user_id) == user_id
        with pytest.raises(InvalidIdentifier):
            parse_user_id(user_id, historical=False)
    assert parse_user_id("@UPPER~case:example.org", historical=False)


@pytest.mark.parametrize("localpart", ["", "Alice", "al ice", "älice", "al:ice", "al*ice", "alice\n", None])
def test_new_accounts_are_held_to_the_strict_grammar(localpart: object) -> None:
    with pytest.raises(InvalidIdentifier):
        parse_new_user_localpart(localpart)


def test_room_hashes() -> None:
    assert is_room_hash("!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ")
    for not_hash in (
        "$Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ",
        "!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpY",
        "!Nhcu5BS+UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ",
        "!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpY\n",
        "!room:example.org",
    ):
        assert not is_room_hash(not_hash)


def test_parts() -> None:
    assert server_of("@alice:example.org:8448") == "example.org:8448"
    assert localpart_of("@alice:example.org:8448") == "alice"
    assert localpart_of("!hash") == "hash"
    with pytest.raises(InvalidIdentifier):
        server_of("!hash")


@given(server_names, user_ids, new_localparts, domain_room_ids, hash_room_ids, room_aliases)
def test_what_the_grammar_makes_is_accepted(
    server: str, user: str, localpart: str, room: str, hashed_room: str, alias: str
) -> None:
    assert parse_server_name(server) == server
    assert parse_user_id(user) == user
    assert parse_user_id(f"@{parse_new_user_localpart(localpart)}:{server}", historical=False)
    assert parse_room_id(room) == room
    assert parse_room_id(hashed_room) == hashed_room
    assert is_room_hash(hashed_room)
    assert parse_room_alias(alias) == alias
    for identifier in (user, room, alias):
        assert f"{identifier[0]}{localpart_of(identifier)}:{server_of(identifier)}" == identifier


@given(st.text(st.characters(), max_size=300) | st.text("@!#$:a.\0\ud800é", max_size=12))
def test_no_text_makes_a_parser_fail_otherwise(text: str) -> None:
    for parse in PARSERS:
        try:
            assert parse(text) == text
        except InvalidIdentifier as error:
            assert str(error)

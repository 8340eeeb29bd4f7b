"""Filters: what they let through, and what is no filter."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.errors import BadJson
from homeserver.sync.filters import (
    MAX_LIMIT,
    NO_FILTER,
    keep_fields,
    parse_event_filter,
    parse_field_path,
    parse_filter,
    parse_inline_event_filter,
    parse_inline_filter,
)


def test_nothing_said_is_all_let_through() -> None:
    shapes: list[Any] = [
        {},
        {"room": {}},
        {"room": {"timeline": {}, "state": None}, "presence": None},
        {"unknown": [1]},
    ]
    for json in shapes:
        filter = parse_filter(json)
        assert filter == NO_FILTER
        for part in (filter.room.timeline, filter.room.state, filter.room.ephemeral, filter.presence):
            assert part.is_open and part.limit == 10
            assert part.admits("m.room.message", "@ann:a.org") and part.admits_room("!r:a.org")
        assert filter.room.admits_room("!r:a.org") and not filter.room.include_leave
        assert filter.event_fields is None and filter.event_format == "client"


def test_the_specifications_example() -> None:
    filter = parse_filter(
        {
            "room": {
                "state": {"types": ["m.room.*"], "not_rooms": ["!726s6s6q:example.com"]},
                "timeline": {
                    "limit": 10,
                    "types": ["m.room.message"],
                    "not_rooms": ["!726s6s6q:example.com"],
                    "not_senders": ["@spam:example.com"],
                },
                "ephemeral": {"types": ["m.receipt", "m.typing"], "not_senders": ["@spam:example.com"]},
            },
            "presence": {"types": ["m.presence"], "not_senders": ["@alice:example.com"]},
            "event_format": "client",
            "event_fields": ["type", "content", "sender"],
        }
    )
    timeline = filter.room.timeline
    assert timeline.admits("m.room.message", "@ann:example.com")
    assert not timeline.admits("m.room.name", "@ann:example.com")
    assert not timeline.admits("m.room.message", "@spam:example.com")
    assert not timeline.admits_room("!726s6s6q:example.com") and timeline.admits_room("!x:example.com")
    assert filter.room.state.admits("m.room.name", "@spam:example.com")
    assert not filter.presence.admits("m.presence", "@alice:example.com")
    assert filter.event_fields == (("type",), ("content",), ("sender",))
    assert timeline.types.wanted == ("m.room.message",) and timeline.senders.unwanted == ("@spam:example.com",)


@pytest.mark.parametrize(
    ("contains_url", "has_url", "admitted"),
    [(True, True, True), (True, False, False), (True, None, False), (False, True, False), (False, None, True)],
)
def test_contains_url(contains_url: bool, has_url: bool | None, admitted: bool) -> None:
    filter = parse_event_filter({"contains_url": contains_url})
    assert not filter.is_open
    assert filter.admits("m.room.message", "@ann:a.org", has_url) is admitted


@pytest.mark.parametrize(("said", "meant"), [(0, 0), (1, 1), (MAX_LIMIT, MAX_LIMIT), (10**6, MAX_LIMIT), (None, 10)])
def test_limits_are_bounded(said: int | None, meant: int) -> None:
    assert parse_event_filter({"limit": said}).limit == meant


def test_switches() -> None:
    filter = parse_filter(
        {
            "room": {
                "include_leave": True,
                "rooms": ["!in:a.org"],
                "not_rooms": ["!out:a.org"],
                "state": {"lazy_load_members": True, "include_redundant_members": True},
                "timeline": {
                    "unread_thread_notifications": True,
                    "related_by_senders": ["@ann:a.org"],
                    "related_by_rel_types": ["m.thread"],
                },
            },
            "event_format": "federation",
        }
    )
    assert filter.lazy_load_members and filter.room.state.include_redundant_members
    assert filter.unread_thread_notifications and filter.room.include_leave and filter.event_format == "federation"
    assert filter.room.timeline.related_by_senders == ("@ann:a.org",)
    assert filter.room.timeline.related_by_rel_types == ("m.thread",)
    assert [filter.room.admits_room(room) for room in ("!in:a.org", "!out:a.org", "!x:a.org")] == [True, False, False]


@pytest.mark.parametrize(
    ("json", "field"),
    [
        ([], ""),
        ("x", ""),
        ({"room": []}, "room"),
        ({"presence": "x"}, "presence"),
        ({"room": {"timeline": {"limit": "ten"}}}, "room.timeline.limit"),
        ({"room": {"timeline": {"limit": -1}}}, "room.timeline.limit"),
        ({"room": {"timeline": {"limit": 1.5}}}, "room.timeline.limit"),
        ({"room": {"state": {"types": "m.room.name"}}}, "room.state.types"),
        ({"room": {"state": {"types": [1]}}}, "room.state.types"),
        ({"room": {"state": {"lazy_load_members": 1}}}, "room.state.lazy_load_members"),
        ({"room": {"rooms": ["r"]}}, "room.rooms"),
        ({"room": {"ephemeral": {"not_rooms": ["#a:a.org"]}}}, "room.ephemeral.not_rooms"),
        ({"room": {"timeline": {"senders": ["ann"]}}}, "room.timeline.senders"),
        ({"account_data": {"not_senders": [""]}}, "account_data.not_senders"),
        ({"event_fields": ["type", 3]}, "event_fields"),
        ({"event_format": "xml"}, "event_format"),
    ],
)
def test_what_is_no_filter_is_told_with_the_field(json: Any, field: str) -> None:
    with pytest.raises(BadJson) as caught:
        parse_filter(json)
    assert caught.value.errcode == "M_BAD_JSON" and field in caught.value.error


def test_inline_filters_are_parsed_once() -> None:
    text = '{"room":{"timeline":{"limit":7}}}'
    assert parse_inline_filter(text) is parse_inline_filter(text)
    assert parse_inline_filter(text).room.timeline.limit == 7
    assert parse_inline_event_filter('{"limit":7}') is parse_inline_event_filter('{"limit":7}')
    long = orjson.dumps({"presence": {"types": ["x" * 5000]}}).decode()
    assert parse_inline_filter(long) is not parse_inline_filter(long)


@pytest.mark.parametrize("text", ["{", "{}x", "[" * 10_000])
def test_inline_filters_that_are_no_json(text: str) -> None:
    for parse in (parse_inline_filter, parse_inline_event_filter):
        with pytest.raises(BadJson) as caught:
            parse(text)
        assert caught.value.errcode == "M_NOT_JSON"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("type", ("type",)),
        ("content.body", ("content", "body")),
        (r"content.m\.relates_to.rel_type", ("content", "m.relates_to", "rel_type")),
        (r"content.m\\foo", ("content", r"m\foo")),
        (r"content.\x", ("content", r"\x")),
        ("a..b", ("a", "", "b")),
        ("\\", ("\\",)),
    ],
)
def test_paths_of_fields(text: str, path: tuple[str, ...]) -> None:
    assert parse_field_path(text) == path


def test_only_the_fields_asked_for_are_kept() -> None:
    event = {"type": "t", "content": {"a": {"b": 1, "c": 2}, "d": 3}, "sender": "@ann:a.org"}
    before = orjson.dumps(event)

    def kept(*paths: str) -> dict[str, Any]:
        return keep_fields(event, tuple(map(parse_field_path, paths)))

    assert kept("type", "content.d", "content.a.b") == {"type": "t", "content": {"d": 3, "a": {"b": 1}}}
    assert kept("content.a", "content.a.b") == {"content": {"a": {"b": 1, "c": 2}}}
    assert kept("content.a.b", "content") == {"content": event["content"]}
    assert kept("nothing", "type.x", "content.a.b.c") == {}
    assert orjson.dumps(event) == before

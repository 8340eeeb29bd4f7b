"""Asking for a part of a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.media.ranges import BadRange, Part, is_known, wanted_part

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("wanted", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=0-99999999", 0, 10),
        ("bytes=3-", 3, 7),
        ("bytes=9-9", 9, 1),
        ("bytes=-1", 9, 1),
        ("bytes=-10", 0, 10),
        ("bytes=-999", 0, 10),
        (" bytes = 2 - 4 ", 2, 3),
    ],
)
def test_parts(wanted: str, start: int, length: int) -> None:
    assert wanted_part(wanted, None, ETAG, 10) == Part(start, length, 10)


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=--1",
        "bytes=1",
        "٣-٤",
    ],
)
def test_what_is_no_range_gets_the_whole(wanted: str | None) -> None:
    assert wanted_part(wanted, None, ETAG, 10) is None


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=999999999999999999-"])
def test_outside(wanted: str) -> None:
    with pytest.raises(BadRange) as caught:
        wanted_part(wanted, None, ETAG, 10)
    assert caught.value.headers == {"Content-Range": "bytes */10"}


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_nothing_has_no_parts(wanted: str) -> None:
    with pytest.raises(BadRange):
        wanted_part(wanted, None, ETAG, 0)


@pytest.mark.parametrize(("if_range", "is_part"), [(ETAG, True), ('"other"', False), ("W/" + ETAG, False), ("", False)])
def test_only_of_what_one_has_the_rest_of(if_range: str, is_part: bool) -> None:
    assert (wanted_part("bytes=1-", if_range, ETAG, 10) is not None) is is_part


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False),
        (ETAG, True),
        ("W/" + ETAG, True),
        ('"x", ' + ETAG, True),
        ("*", True),
        ('"x"', False),
        ("", False),
    ],
)
def test_what_one_has_already(header: str | None, known: bool) -> None:
    assert is_known(header, ETAG) is known


@given(st.text(max_size=30), st.integers(0, 1000))
def test_any_text_at_all(wanted: str, size: int) -> None:
    try:
        part = wanted_part(wanted, None, ETAG, size)
    except BadRange:
        return
    assert part is None or (part.start >= 0 and part.length > 0 and part.start + part.length <= size)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_a_part_is_what_a_slice_is(start: int, end: int, size: int) -> None:
    whole = bytes(range(size))
    try:
        part = wanted_part(f"bytes={start}-{end}", None, ETAG, size)
    except BadRange:
        assert start >= size
        return
    if part is not None:
        assert whole[part.start : part.start + part.length] == whole[start : end + 1]
        assert part.content_range == f"bytes {part.start}-{part.start + part.length - 1}/{size}"

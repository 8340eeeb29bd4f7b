"""Files in two parts: what is written is read, however it is cut, and what is none is refused."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.wire.multipart import (
    MAX_ABOUT,
    MAX_HEAD,
    BadMultipart,
    MultipartReader,
    after_file,
    before_file,
    boundary_of,
)

BOUNDARY = "guildhall-0f"
FILES = st.one_of(
    st.binary(max_size=300),
    # Much that looks like an end.
    st.lists(st.sampled_from([b"\r\n", b"--", b"guildhall", b"-0", b"\r\n--guildhall-0", b"f", b"x"]), max_size=20).map(
        b"".join
    ),
).filter(lambda file: f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + file)


def written(file: bytes, **headers: str) -> bytes:
    return before_file(BOUNDARY, headers) + file + after_file(BOUNDARY)


def read(body: bytes, cuts: list[int]) -> tuple[bytes, MultipartReader]:
    """Read a body that comes in pieces."""
    reader = MultipartReader(BOUNDARY.encode())
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    file = b"".join(reader.feed(body[start:end]) for start, end in pairwise(edges))
    return file, reader


@given(FILES, st.lists(st.integers(0, 10_000), max_size=30), st.sampled_from([b"", b"\r\n", b"what comes after"]))
def test_what_is_written_is_read(file: bytes, cuts: list[int], after: bytes) -> None:
    found, reader = read(written(file, **{"Content-Type": "image/png"}) + after, cuts)
    assert found == file
    assert reader.complete
    assert reader.file_headers == {"content-type": "image/png"}


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_a_place_elsewhere(cuts: list[int]) -> None:
    found, reader = read(written(b"", Location="https://cdn.example/x"), cuts)
    assert (found, reader.complete, reader.file_headers) == (b"", True, {"location": "https://cdn.example/x"})


@given(st.lists(st.integers(0, 10_000), max_size=10))
def test_as_others_write_it(cuts: list[int]) -> None:
    """A preamble, blanks behind boundaries, a part without headers, nothing between headers and the end."""
    body = (
        b"This is a message in several parts.\r\n--guildhall-0f \t\r\n\r\nwhatever\r\n"
        b"--guildhall-0f\r\nLOCATION : https://cdn.example/x\r\n\r\n--guildhall-0f--"
    )
    found, reader = read(body, cuts)
    assert (found, reader.complete, reader.file_headers) == (b"", True, {"location": "https://cdn.example/x"})
    found, reader = read(b"--guildhall-0f\r\n\r\n{}\r\n--guildhall-0f\r\n\r\nfile\r\n--guildhall-0f--", cuts)
    assert (found, reader.complete, reader.file_headers) == (b"file", True, {})


@given(FILES, st.integers(0, 10_000))
def test_what_ends_too_early_is_not_complete(file: bytes, cut: int) -> None:
    body = written(file)
    body = body[: cut % (len(body) - 4)]
    try:
        found, reader = read(body, [])
    except BadMultipart:
        return
    assert not reader.complete
    assert file.startswith(found)


@pytest.mark.parametrize(
    "body",
    [
        b"--guildhall-0f--\r\n",
        b"--guildhall-0f\r\n\r\n{}\r\n--guildhall-0f--\r\n",
        b"--guildhall-0fx\r\n\r\n{}\r\n",
        b"--guildhall-0f\r\nno colon\r\n\r\n{}\r\n",
        b"--guildhall-0f\r\n" + b"x" * (MAX_HEAD + 10),
        b"--guildhall-0f" + b" " * (MAX_HEAD + 10),
        b"x" * (MAX_ABOUT + 10),
        b"--guildhall-0f\r\n\r\n" + b"x" * (MAX_ABOUT + 10),
        b"--guildhall-0f\r\n\r\n{}\r\n--guildhall-0f\r\n\r\nfile\r\n--guildhall-0f\r\n\r\nanother",
        b"--guildhall-0f\r\n\r\n{}\r\n--guildhall-0f\r\n\r\nfile\r\n--guildhall-0f-\r\n",
    ],
)
def test_what_is_none(body: bytes) -> None:
    with pytest.raises(BadMultipart):
        read(body, [])


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=10))
def test_any_bytes_at_all(body: bytes, cuts: list[int]) -> None:
    with suppress(BadMultipart):
        read(body, cuts)


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/mixed; boundary=abc", "abc"),
        ('multipart/mixed; boundary="a b c"', "a b c"),
        ("Multipart/Mixed;charset=utf-8;BOUNDARY = abc ;x=y", "abc"),
        ("multipart/mixed; boundary=" + "a" * 70, "a" * 70),
        ("multipart/mixed", None),
        ("multipart/form-data; boundary=abc", None),
        ("multipart/mixed; boundary=", None),
        ('multipart/mixed; boundary=""', None),
        ('multipart/mixed; boundary="a "', None),
        ('multipart/mixed; boundary="é"', None),
        ("multipart/mixed; boundary=" + "a" * 71, None),
        ("", None),
    ],
)
def test_boundaries(header: str, boundary: str | None) -> None:
    if boundary is not None:
        assert boundary_of(header) == boundary.encode()
    else:
        with pytest.raises(BadMultipart):
            boundary_of(header)

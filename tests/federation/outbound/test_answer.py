"""Answers of honest and of hostile servers, in one piece and in many."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.outbound.answer import MAX_HEAD, AnswerReader, BadHttp, TooLarge, write_request

LIMIT = 1000
PIECE = 16 * 1024


def read(data: bytes, *, ends: bool = False) -> tuple[AnswerReader, bytes]:
    """Fed in pieces, as they come from a connection."""
    reader = AnswerReader(LIMIT)
    body = b"".join(reader.feed(data[start : start + PIECE]) for start in range(0, len(data), PIECE))
    if ends:
        reader.end()
    return reader, body


# What came, whether the connection ended then → the body; whether the connection is fit for more.
GOOD: list[tuple[str, bytes, bool, bytes, bool]] = [
    ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", False, b"{}", True),
    ("no reason", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", False, b"{}", True),
    ("empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, b"", True),
    ("close", b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}", False, b"{}", False),
    ("close among others", b"HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 0\r\n\r\n", False, b"", False),
    ("1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", False, b"{}", False),
    ("until the end", b"HTTP/1.1 200 OK\r\n\r\nabc", True, b"abc", False),
    ("chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", False, b"{}", True),
    (
        "chunks with all the trimmings",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
        b"2;a=b\r\n{\n\r\n00A\r\n0123456789\r\n0;x\r\nTrailer: y\r\n\r\n",
        False,
        b"{\n0123456789",
        True,
    ),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", False, b"", True),
    ("304 with a length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False, b"", True),
    (
        "100 before",
        b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        False,
        b"x",
        True,
    ),
    ("too much", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n", False, b"x", False),
    ("exactly the limit", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, False, b"x" * 1000, True),
]  # fmt: skip


@pytest.mark.parametrize(("data", "ends", "body", "reusable"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_answers(data: bytes, ends: bool, body: bytes, reusable: bool) -> None:
    reader, found = read(data, ends=ends)
    assert reader.complete
    assert found == body
    assert reader.reusable is reusable


@given(st.sampled_from(GOOD), st.lists(st.integers(0, 200), max_size=8))
def test_how_it_is_cut_makes_no_difference(row: tuple[str, bytes, bool, bytes, bool], cuts: list[int]) -> None:
    _, data, ends, body, reusable = row
    reader = AnswerReader(LIMIT)
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    found = [reader.feed(data[start:end]) for start, end in pairwise(places)]
    if ends:
        reader.end()
    assert reader.complete
    assert b"".join(found) == body
    assert reader.reusable is reusable


def test_headers() -> None:
    reader, _ = read(
        b"HTTP/1.1 429 Slow Down\r\nRetry-After:  3 \r\nX-A: 1\r\nx-a: 2\r\nEmpty:\r\nContent-Length: 0\r\n\r\n"
    )
    assert reader.status == 429
    assert reader.headers == {"retry-after": "3", "x-a": "1, 2", "empty": "", "content-length": "0"}


BAD: list[tuple[str, bytes]] = [
    ("not http", b"SSH-2.0-OpenSSH_9\r\n\r\n"),
    ("http 2", b"HTTP/2 200 OK\r\n\r\n"),
    ("status", b"HTTP/1.1 2000 OK\r\n\r\n"),
    ("status 0xx", b"HTTP/1.1 099 OK\r\n\r\n"),
    ("switching", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    ("folded header", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
    ("space before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n"),
    ("no colon", b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n"),
    ("bare line feed", b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 3\r\n\r\n"),
    ("NUL", b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n"),
    ("the same length twice", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    ("length with a sign", b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n"),
    ("negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    ("length in other digits", "HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin-1")),
    ("endless length", b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n"),
    ("length and chunks", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("gzip chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    ("chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    ("negative chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"),
    ("long chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"),
    ("long chunk line", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"a" * (MAX_HEAD + PIECE)),
    ("long headers", b"HTTP/1.1 200 OK\r\nA: " + b"b" * (MAX_HEAD + PIECE)),
    ("endless 100s", b"HTTP/1.1 100 Continue\r\n\r\n" * 4000),
    ("endless trailers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 15_000),
]


@pytest.mark.parametrize("data", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(BadHttp):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"200\r\n"
        + b"x" * 512
        + b"\r\n1ff\r\n"
        + b"x" * 489,
    ],
)
def test_what_is_too_large(data: bytes) -> None:
    with pytest.raises(TooLarge):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
    ],
)
def test_an_end_in_the_middle(data: bytes) -> None:
    reader = AnswerReader(LIMIT)
    reader.feed(data)
    assert reader.begun is bool(data)
    with pytest.raises(BadHttp):
        reader.end()


@given(st.binary(max_size=300), st.lists(st.binary(max_size=30), max_size=5))
def test_no_bytes_break_it(start: bytes, more: list[bytes]) -> None:
    reader = AnswerReader(LIMIT)
    try:
        found = [reader.feed(piece) for piece in (b"HTTP/1.1 200 OK\r\n" + start, *more)]
        reader.end()
    except BadHttp:
        return
    assert reader.complete
    assert len(b"".join(found)) <= LIMIT


def test_many_small_chunks_do_not_take_long() -> None:
    reader = AnswerReader(10_000_000)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"1\r\nx\r\n" * 11_000  # as much as one read brings
    assert sum(len(reader.feed(piece)) for _ in range(20)) == 220_000
    reader.feed(b"0\r\n\r\n")
    assert reader.complete


def test_requests() -> None:
    assert (
        write_request("GET", "/a?b=c%20d", "h:1", {"X-A": "1"}, None)
        == b"GET /a?b=c%20d HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\n\r\n"
    )
    assert write_request("PUT", "/a", "h", {}, b"{}") == b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("path", "host", "headers"),
    [
        ("/a b", "h", {}),
        ("/a\r\nX: y", "h", {}),
        ("/ä", "h", {}),
        ("/a", "h\r\nX: y", {}),
        ("/a", "h", {"X": "y\r\nZ: w"}),
        ("/a", "h", {"X\r\nZ": "y"}),
    ],
)
def test_nothing_breaks_out_of_its_line(path: str, host: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="request's"):
        write_request("GET", path, host, headers, None)

"""Answers of honest and of hostile servers, in one piece and in many."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.outbound.http1 import MAX_HEAD, AnswerReader, BadHttp, TooLarge, write_request
from federation.outbound.transport import Response

LIMIT = 1000


def read(data: bytes, *, ends: bool = False) -> AnswerReader:
    reader = AnswerReader(LIMIT)
    reader.feed(data)
    if ends:
        reader.end()
    return reader


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
        b"2;a=b\r\n{\n\r\n00A \r\n0123456789\r\n0;x\r\nTrailer: y\r\n\r\n",
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
    ("the same length twice", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", False, b"x", True),
    ("exactly the limit", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, False, b"x" * 1000, True),
]  # fmt: skip


@pytest.mark.parametrize(("data", "ends", "body", "reusable"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_answers(data: bytes, ends: bool, body: bytes, reusable: bool) -> None:
    reader = read(data, ends=ends)
    assert reader.response().body == body
    assert reader.reusable is reusable


@given(st.sampled_from(GOOD), st.lists(st.integers(0, 200), max_size=8))
def test_how_it_is_cut_makes_no_difference(row: tuple[str, bytes, bool, bytes, bool], cuts: list[int]) -> None:
    _, data, ends, body, _ = row
    reader = AnswerReader(LIMIT)
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    for start, end in pairwise(places):
        reader.feed(data[start:end])
    if ends:
        reader.end()
    assert reader.complete
    assert reader.response() == Response(reader.response().status, reader.response().headers, body)


def test_headers() -> None:
    reader = read(
        b"HTTP/1.1 429 Slow Down\r\nRetry-After:  3 \r\nX-A: 1\r\nx-a: 2\r\nEmpty:\r\nContent-Length: 0\r\n\r\n"
    )
    response = reader.response()
    assert response.status == 429
    assert response.headers == {"retry-after": "3", "x-a": "1, 2", "empty": "", "content-length": "0"}


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
    ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    ("length with a sign", b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n"),
    ("negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    ("length in other digits", "HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin-1")),
    ("endless length", b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n"),
    ("length and chunks", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("gzip chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    ("chunks in 1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    ("negative chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"),
    ("long chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"),
    ("long chunk line", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"a" * 300),
    ("long headers", b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD),
    ("endless 100s", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000),
    ("endless trailers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 12_000),
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
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"200\r\n" + b"x" * 512 + b"\r\n1ff\r\n",
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
        for piece in (b"HTTP/1.1 200 OK\r\n" + start, *more):
            reader.feed(piece)
        reader.end()
    except BadHttp:
        return
    assert len(reader.response().body) <= LIMIT


def test_many_small_chunks_do_not_take_long() -> None:
    reader = AnswerReader(10_000_000)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"1\r\nx\r\n" * 11_000  # as much as one read brings
    started = time.process_time()
    for _ in range(20):
        reader.feed(piece)
    assert time.process_time() - started < 2
    reader.feed(b"0\r\n\r\n")
    assert len(reader.response().body) == 220_000


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

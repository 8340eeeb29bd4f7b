"""Reading the answers of HTTP/1.1 servers, whoever they are: bytes in, one answer out, and no socket in sight.

    status line and headers ──> body by its length ──────> complete
      (1xx: again)         ├──> body in chunks ──────────>
                           └──> body until the end ──────> the connection is used up

    BadHttp         what came is no HTTP, or leaves open where the answer ends
    └── TooLarge    the body is larger than whoever asked will take

Strict where leniency would let two readers see two different answers, limited everywhere.

Spec: RFC 9112
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from federation.outbound.transport import Response

MAX_HEAD = 64 * 1024
"""Bytes of status line and headers, those of informational answers included; of trailers too."""
MAX_CHUNK_LINE = 256

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n\0]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\r\n\0]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?")


class BadHttp(ValueError):
    """What a server sent is not an HTTP answer. The message says why."""


class TooLarge(BadHttp):
    """The body is larger than wanted."""


class _At(Enum):
    HEAD = 1
    LENGTH = 2
    CHUNK_LINE = 3
    CHUNK = 4
    CHUNK_END = 5
    TRAILERS = 6
    UNTIL_END = 7
    COMPLETE = 8


class AnswerReader:
    """Reads the answer to one request that was not HEAD."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._at = _At.HEAD
        self._buffer = b""
        self._read = 0
        """How much of the buffer has been read: cutting it off at each small chunk would take quadratic time."""
        self._head_left = MAX_HEAD
        self._left = 0
        self._body = bytearray()
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._reusable = False

    @property
    def begun(self) -> bool:
        """Whether anything at all has come."""
        return bool(self._buffer) or self._at is not _At.HEAD or self._head_left < MAX_HEAD

    @property
    def complete(self) -> bool:
        return self._at is _At.COMPLETE

    @property
    def reusable(self) -> bool:
        """Whether the connection is fit for another request, once the answer is complete."""
        return self._reusable and self.complete and not self._buffer

    def feed(self, data: bytes) -> bool:
        """Take what came; True once the answer is complete. Raises `BadHttp`."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._step():
            pass
        self._buffer = self._buffer[self._read :]
        self._read = 0
        return self.complete

    def end(self) -> None:
        """The connection has ended. Raises `BadHttp` unless the answer is complete by that."""
        if self._at is _At.UNTIL_END:
            self._at = _At.COMPLETE
        elif not self.complete:
            raise BadHttp("the connection ended in the middle of the answer")

    def response(self) -> Response:
        """The answer, once it is complete."""
        assert self.complete
        return Response(self._status, self._headers, bytes(self._body))

    def _step(self) -> bool:
        """Get on by one part; False where more bytes are needed, or none."""
        match self._at:
            case _At.HEAD:
                return self._read_head()
            case _At.LENGTH | _At.CHUNK:
                return self._read_counted()
            case _At.CHUNK_LINE:
                return self._read_chunk_line()
            case _At.CHUNK_END:
                return self._read_chunk_end()
            case _At.TRAILERS:
                return self._read_trailers()
            case _At.UNTIL_END:
                self._take(len(self._buffer))
                return False
            case _At.COMPLETE:
                return False

    def _read_head(self) -> bool:
        head = self._read_until(b"\r\n\r\n", self._head_left)
        if head is None:
            return False
        self._head_left -= len(head) + 4
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise BadHttp("it does not begin as HTTP does")
        self._status = int(status[2])
        if self._status == 101:
            raise BadHttp("it switches to another protocol")
        headers = _read_headers(lines)
        if self._status >= 200:
            self._headers = headers
            self._begin_body(status[1] == b"1")
        return True

    def _begin_body(self, persistent: bool) -> None:
        headers = self._headers
        options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
        self._reusable = persistent and "close" not in options
        if self._status in (204, 304):
            self._at = _At.COMPLETE
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked" or not persistent:
                raise BadHttp("its transfer encoding is not known here")
            if "content-length" in headers:
                raise BadHttp("it states a length and chunks at once")
            self._at = _At.CHUNK_LINE
        elif "content-length" in headers:
            self._left = _read_length(headers["content-length"])
            self._check_size(self._left)
            self._at = _At.LENGTH if self._left else _At.COMPLETE
        else:
            self._reusable = False
            self._at = _At.UNTIL_END

    def _read_counted(self) -> bool:
        size = min(self._left, len(self._buffer) - self._read)
        if not size:
            return False
        self._take(size)
        self._left -= size
        if not self._left:
            self._at = _At.COMPLETE if self._at is _At.LENGTH else _At.CHUNK_END
        return True

    def _read_chunk_line(self) -> bool:
        line = self._read_until(b"\r\n", MAX_CHUNK_LINE)
        if line is None:
            return False
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise BadHttp("a chunk has no size")
        self._left = int(match[1], 16)
        self._check_size(len(self._body) + self._left)
        self._at = _At.CHUNK if self._left else _At.TRAILERS
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._buffer) - self._read < 2:
            return False
        if not self._buffer.startswith(b"\r\n", self._read):
            raise BadHttp("a chunk is longer than its size")
        self._read += 2
        self._at = _At.CHUNK_LINE
        return True

    def _read_trailers(self) -> bool:
        line = self._read_until(b"\r\n", self._head_left)
        if line is None:
            return False
        self._head_left -= len(line) + 2
        if not line:
            self._at = _At.COMPLETE
        return True

    def _read_until(self, mark: bytes, limit: int) -> bytes | None:
        """What stands before the next `mark`, both together at most `limit` bytes; None where it has not come yet."""
        end = self._buffer.find(mark, self._read, self._read + limit)
        if end < 0:
            if len(self._buffer) - self._read >= limit:
                raise BadHttp("its headers, or a line between chunks, are too long")
            return None
        found = self._buffer[self._read : end]
        self._read = end + len(mark)
        return found

    def _take(self, size: int) -> None:
        self._check_size(len(self._body) + size)
        self._body += memoryview(self._buffer)[self._read : self._read + size]
        self._read += size

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(f"the answer is larger than {self._max_bytes} bytes")


def _read_length(text: str) -> int:
    lengths = {length.strip() for length in text.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit() and len(length) < 16):
        raise BadHttp("its length is not one number")
    return int(length)


def _read_headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadHttp("a header is malformed")
        key, text = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def write_request(method: str, path: str, host: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A request as bytes. Raises `ValueError` where something in it would break out of its line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    for line in lines:
        if not line.isascii() or not line.isprintable():
            raise ValueError("a request's head may only hold printable ASCII")
    if " " in path:
        raise ValueError("a request's path may not hold spaces")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")

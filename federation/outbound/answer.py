"""Reading the answers of HTTP/1.1 servers, whoever they are: bytes in, one answer out, and no socket in sight.

llhttp reads (the parser of Node.js, by way of httptools), as strictly as it can: two lengths, a length beside chunks,
folded headers or bare line feeds are no HTTP. What is here are the limits that it leaves to others.

    BadHttp         what came is no HTTP, or leaves open where the answer ends
    └── TooLarge    the body is larger than whoever asked will take
"""

from __future__ import annotations

from collections.abc import Mapping

import httptools

MAX_HEAD = 64 * 1024
"""Bytes that may come without getting the body on: status line and headers, those of informational answers included,
trailers, and what stands between chunks."""

_BODILESS = frozenset({204, 304})


class BadHttp(Exception):
    """What a server sent is not an HTTP answer. The message says why."""


class TooLarge(BadHttp):
    """The body is larger than wanted."""


class AnswerReader:
    """Reads the answer to one request that was not HEAD."""

    def __init__(self, max_bytes: int, max_error_bytes: int | None = None) -> None:
        """How large the body may be, and how large where the status is not one of success."""
        self.begun = False
        """Whether anything at all has come."""
        self.headed = False
        """Whether `status` and `headers` are known."""
        self.complete = False
        self.status = 0
        self.headers: Mapping[str, str] = {}
        """By name in lower case; repeated headers are joined by commas."""
        self._parser = httptools.HttpResponseParser(self)
        self._max_bytes = max_bytes
        self._max_error_bytes = max_bytes if max_error_bytes is None else max_error_bytes
        self._arriving: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._size = 0
        self._idle_bytes = 0
        self._got_on = False
        self._reusable = False

    @property
    def reusable(self) -> bool:
        """Whether the connection is fit for another request, once the answer is complete."""
        return self._reusable and self.complete

    def feed(self, data: bytes) -> bytes:
        """Take what came; what was of the body. Raises `BadHttp`."""
        self.begun = self.begun or bool(data)
        self._got_on = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or BadHttp("it does not speak HTTP") from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise BadHttp(f"it does not speak HTTP: {error}") from None
            self._reusable = False  # whatever it is that comes after the answer
        self._idle_bytes = 0 if self._got_on else self._idle_bytes + len(data)
        if self._idle_bytes > MAX_HEAD and not self.complete:
            raise BadHttp("its headers, or what stands between chunks, are too long")
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    def end(self) -> None:
        """The connection has ended. Raises `BadHttp` unless the answer is complete by that."""
        if self.headed and self.headers.keys().isdisjoint(("content-length", "transfer-encoding")):
            self.complete = True
        if not self.complete:
            raise BadHttp("the connection ended in the middle of the answer")

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._reusable = False  # if the answer was complete, this is one that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.headed:
            return  # a trailer, or a part of what nobody asked for
        key, text = name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")
        self._arriving[key] = f"{self._arriving[key]}, {text}" if key in self._arriving else text

    def on_headers_complete(self) -> None:
        if self.headed:
            return
        status, headers = self._parser.get_status_code(), self._arriving
        self._arriving = {}
        if status < 200:
            if status < 100:
                raise BadHttp("its status is none")
            return  # another will follow
        self.headed = self._got_on = True
        self.status, self.headers = status, headers
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise BadHttp("its transfer encoding is not known here")
        if not 200 <= status < 300:
            self._max_bytes = self._max_error_bytes
        if status not in _BODILESS:
            self._check_size(int(headers.get("content-length", 0)))

    def on_body(self, data: bytes) -> None:
        if self.complete:
            return
        self._got_on = True
        self._size += len(data)
        self._check_size(self._size)
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self.headed and not self.complete:
            self.complete = True
            self._reusable = self._parser.should_keep_alive()

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(f"the answer is larger than {self._max_bytes} bytes")


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

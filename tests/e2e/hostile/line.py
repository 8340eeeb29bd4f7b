"""A client for thousands of bad requests: one connection kept alive, paths and bodies sent exactly as given.

Its own, since `http.client` takes as long for an exchange as the server does.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import define, field
from httptools import HttpParserError, HttpResponseParser

from tests.fixtures_server import Answer, ServerProcess

_ERRCODE = re.compile(r"M_[A-Z_]+")


@define
class Line:
    """A connection to a server, renewed whenever it was closed."""

    server: ServerProcess
    secrets: tuple[str, ...] = ()
    """What no answer on this line may hold."""
    _socket: socket.socket | None = None
    asked: int = field(init=False, default=0)

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`target` is path and query, percent-encoded already. `body` goes as JSON, or as it is where it is bytes."""
        data = body if isinstance(body, bytes) or body is None else encode(body)
        all_headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token is not None else {})}
        self.asked += 1
        fresh = self._socket is None
        try:
            return self._ask(method, target, data, all_headers)
        except (HttpParserError, OSError):
            # Whatever was kept alive may have been closed meanwhile; a fresh one must not be.
            self.close()
            if fresh:
                raise
            return self._ask(method, target, data, all_headers)

    def _ask(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        url = urlsplit(self.server.base)
        if self._socket is None:
            self._socket = socket.create_connection((str(url.hostname), url.port), timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        given = {"Host": url.netloc, **headers}
        if "Transfer-Encoding" not in given and (data is not None or method in ("POST", "PUT", "PATCH")):
            given["Content-Length"] = str(len(data or b""))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items()), "", ""]
        self._socket.sendall("\r\n".join(lines).encode("latin-1") + (data or b""))
        reading = _Reading(has_body=method != "HEAD")
        parser = HttpResponseParser(reading)
        while not reading.is_whole:
            piece = self._socket.recv(1024 * 1024)
            if not piece:
                raise ConnectionError("the server ended the connection in the middle of an answer")
            parser.feed_data(piece)
        answer = Answer(parser.get_status_code(), reading.headers, b"".join(reading.pieces))
        if reading.headers.get("Connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def flaws(self, answer: Answer) -> list[str]:
        """What is wrong with an answer, whatever was asked: nothing may fail, leak, or be unclear."""
        return flaws(answer, self.secrets)


@define
class _Reading:
    """What a parser calls with the parts of an answer."""

    has_body: bool
    headers: dict[str, str] = field(factory=dict)
    pieces: list[bytes] = field(factory=list)
    is_whole: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.is_whole = not self.has_body

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.is_whole = True


def flaws(answer: Answer, secrets: tuple[str, ...] = ()) -> list[str]:
    """See `Line.flaws`."""
    text = answer.body.decode("utf-8", "replace")
    found = [f"{secret} leaked" for secret in secrets if secret in text]
    if answer.status >= 500 and answer.status not in (502, 504):  # those speak of other servers
        found.append(f"status {answer.status}")
    if answer.headers.get("Access-Control-Allow-Origin") != "*":
        found.append("no CORS")
    if answer.status >= 400 and not _is_clear(answer):
        found.append("no clear error")
    return found


def _is_clear(answer: Answer) -> bool:
    """Whether an error is one of Matrix: a code and words, or the next step of interactive authentication."""
    said = answer.json
    if answer.headers.get("Content-Type") != "application/json" or not isinstance(said, dict):
        return False
    if answer.status == 401 and "flows" in said:
        return isinstance(said.get("session"), str)
    code, words = said.get("errcode"), said.get("error")
    return isinstance(code, str) and _ERRCODE.fullmatch(code) is not None and isinstance(words, str) and bool(words)


def encode(body: object) -> bytes:
    """JSON in ASCII, lone surrogates as escapes."""
    return json.dumps(body).encode()


def segment(text: str) -> str:
    """A path segment."""
    return quote(text, safe="")


def describe(what: Any, answer: Answer, flaw: str) -> str:
    """One line of a report."""
    return f"{flaw}: {what!s:.300} -> {answer.status} {answer.body[:200]!r}"

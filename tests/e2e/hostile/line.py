"""A client for thousands of bad requests: one connection kept alive, paths and bodies sent exactly as given."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import define, field

from tests.fixtures_server import Answer, ServerProcess

_ERRCODE = re.compile(r"M_[A-Z_]+")


@define
class Line:
    """A connection to a server, renewed whenever it was closed."""

    server: ServerProcess
    secrets: tuple[str, ...] = ()
    """What no answer on this line may hold."""
    _connection: http.client.HTTPConnection | None = None
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
        fresh = self._connection is None
        try:
            return self._ask(method, target, data, all_headers)
        except (http.client.HTTPException, OSError):
            # Whatever was kept alive may have been closed meanwhile; a fresh one must not be.
            self.close()
            if fresh:
                raise
            return self._ask(method, target, data, all_headers)

    def _ask(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._connection is None:
            url = urlsplit(self.server.base)
            self._connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=60)
        self._connection.request(method, target, data, dict(headers))
        got = self._connection.getresponse()
        answer = Answer(got.status, dict(got.getheaders()), got.read())
        if got.will_close:
            self.close()
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def flaws(self, answer: Answer) -> list[str]:
        """What is wrong with an answer, whatever was asked: nothing may fail, leak, or be unclear."""
        return flaws(answer, self.secrets)


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
    if answer.headers.get("Content-Type") != "application/json" or not isinstance(answer.json, dict):
        return False
    if answer.status == 401 and "flows" in answer.json:
        return isinstance(answer.json.get("session"), str)
    code, words = answer.json.get("errcode"), answer.json.get("error")
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

"""A client of the simplest kind: one request at a time, blocking, on the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

#: What stands behind the question mark.
Query = Mapping[str, str | int]

T = TypeVar("T")

PATIENCE_S = 60.0
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer. `json` is its body, None where that is no JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Refused(AssertionError):
    """The server answered with an error where success was wanted."""

    def __init__(self, what: str, answer: Answer) -> None:
        super().__init__(f"{what}: {answer.status} {answer.body[:500]!r}")
        self.answer = answer


def ask(
    base: str,
    method: str,
    path: str,
    body: object = None,
    query: Query | None = None,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> Answer:
    """One request on a connection of its own. `base` is `http://HOST:PORT`; `body` goes as JSON, or as it is where it
    is bytes. Raises OSError and HTTPException."""
    all_headers = dict(headers or {})
    if token is not None:
        all_headers["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    url = urlsplit(base)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=timeout_s)
    with contextlib.closing(connection):
        connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, all_headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())


def until(look: Callable[[], T], wanted: object = True, patience_s: float = PATIENCE_S) -> T:
    """Look again and again until the wanted is there, and give it. Raises AssertionError with what is there instead.

    A look that is refused, as when somebody does not know of a room yet, counts as not there.
    """
    end = time.monotonic() + patience_s
    pause_s = FIRST_PAUSE_S
    while True:
        found: T | Refused
        try:
            found = look()
        except Refused as refused:
            found = refused
        if not isinstance(found, Refused) and found == wanted:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"after {patience_s:g} s still {found!r}\nnot {wanted!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

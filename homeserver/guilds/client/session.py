"""Requests to a homeserver, one at a time, blocking, on the standard library."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import msgspec

API = "/_guildhall/client/v1"

Query = Mapping[str, str | int]


class NotReached(Exception):
    """Nobody answers there, or nothing that is a homeserver."""


class Refused(Exception):
    """The server answered with an error. https://spec.matrix.org/v1.19/client-server-api/#standard-error-response"""

    def __init__(self, status: int, errcode: str, error: str) -> None:
        super().__init__(f"{error} ({status} {errcode})")
        self.status = status
        self.errcode = errcode


class Caller(Protocol):
    """Whatever makes requests in somebody's name: a `Session`, or a bot's own."""

    def call(self, method: str, path: str, body: object = None, query: Query | None = None) -> Any:
        """The JSON of an answer. Raises something of its own where the server refuses."""


class Session(msgspec.Struct, frozen=True):
    """Somebody's requests to one server. `base`: `https://HOST:PORT`."""

    base: str
    token: str | None = None
    trust: ssl.SSLContext | None = None
    """What certificates to believe; None: those that the system does."""
    timeout_s: float = 60
    sleep: Callable[[float], None] = time.sleep

    def call(self, method: str, path: str, body: object = None, query: Query | None = None) -> Any:
        """One request; the JSON of its answer. Waits and tries again when told to slow down.

        Raises NotReached or Refused.
        """
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        data = json.dumps(body).encode() if body is not None else None
        url = self.base + path + (f"?{urlencode(query)}" if query else "")
        while True:
            request = Request(url, data, headers, method=method)
            try:
                with urlopen(request, timeout=self.timeout_s, context=self.trust) as answer:
                    return json.load(answer)
            except HTTPError as error:
                refused = _refused(error)
                if refused.errcode != "M_LIMIT_EXCEEDED":
                    raise refused from None
                self.sleep(float(error.headers.get("Retry-After") or 1))
            except (OSError, HTTPException, ValueError) as error:
                raise NotReached(f"no homeserver answers at {self.base}: {error}") from None


def _refused(error: HTTPError) -> Refused:
    try:
        body = json.load(error)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    return Refused(error.code, str(body.get("errcode", "")), str(body.get("error", error.reason)))


def at(*segments: str) -> str:
    """A path of the API, of these segments."""
    return "/".join((API, *(quote(segment, safe="") for segment in segments)))

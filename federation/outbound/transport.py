"""The seam between this server and its peers: what goes out, what comes back, and what can go wrong.

`federation.outbound.https` fills it with connections, tests and the simulation with memory.

    PeerError           nothing came of a request; `destination` says with whom, the message why
    ├── Unreachable     no answer: no address, no connection, a wrong certificate, or no patience left
    ├── BadAnswer       an answer that is not what the specification says, or larger than asked for
    └── Refused         an answer with an error status, and the error that stands in it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from attrs import field, frozen

TIMEOUT_S = 60.0
"""How long most requests may take, from looking up the name to the last byte of the answer."""
MAX_BYTES = 10 * 1024 * 1024
"""How large most answers may be. Room states are larger: whoever asks for one says so."""


class Sink(Protocol):
    """Takes the body of an answer piece by piece, so that it is never whole in memory."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """The answer is one of success; its headers, by name in lower case. What this raises ends the request."""

    async def write(self, data: bytes) -> None:
        """The next bytes. No more are read from the peer before this is done; what it raises ends the request."""


@frozen
class Request:
    """One HTTP request to a server, by the name that people know it by."""

    destination: str
    method: str
    path: str
    """From `/_matrix/` on, percent-encoded, with the query: just as it was signed."""
    headers: Mapping[str, str] = field(factory=dict)
    """Without `Host` and `Content-Length`, which the transport knows best."""
    body: bytes | None = None
    timeout_s: float = TIMEOUT_S
    max_bytes: int = MAX_BYTES
    sink: Sink | None = None
    """Where the body goes if the status is one of success; that of the `Response` is then empty. Such requests have
    places of their own beside the destination's others, which they may hold up for long."""


class Response(msgspec.Struct, frozen=True):
    """The answer to a `Request`, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case; repeated headers are joined by commas."""
    body: bytes


class PeerError(Exception):
    """A request to another server came to nothing."""

    retryable = True
    """Whether the same request could have another outcome later."""

    def __init__(self, destination: str, why: str) -> None:
        super().__init__(f"{destination}: {why}")
        self.destination = destination
        self.why = why


class Unreachable(PeerError):
    """There was no answer. What was asked may have been done all the same."""

    def __init__(self, destination: str, why: str, *, retryable: bool = True) -> None:
        super().__init__(destination, why)
        self.retryable = retryable


class BadAnswer(PeerError):
    """The peer answered, but not as the specification says."""

    retryable = False


class Refused(PeerError):
    """The peer answered with an error."""

    def __init__(
        self,
        destination: str,
        status: int,
        errcode: str = "",
        error: str = "",
        retry_after_ms: int | None = None,
        *,
        harms: Sequence[str] = (),
        expiry: int | None = None,
        room_version: str = "",
    ) -> None:
        super().__init__(destination, f"{status} {errcode} {error}".rstrip())
        self.status = status
        self.errcode = errcode
        """`M_…`; empty where the answer has none, as those of reverse proxies."""
        self.error = error
        self.retry_after_ms = retry_after_ms
        """How long the peer asks to be left alone, if it does."""
        self.harms = harms
        """What it says that it refused something for (MSC4387)."""
        self.expiry = expiry
        """From when on that may be otherwise, in ms since 1970; None: it is not said."""
        self.room_version = room_version
        """Where the error is about the version of a room, and says which it has."""
        self.retryable = status == 429 or status >= 500


class Transport(Protocol):
    """Carries requests to other servers."""

    async def send(self, request: Request) -> Response:
        """Deliver it and wait for the answer. Raises `Unreachable`, or `BadAnswer` for what is no HTTP or too large."""

    async def close(self) -> None:
        """Hang up everywhere; requests under way are `Unreachable`."""

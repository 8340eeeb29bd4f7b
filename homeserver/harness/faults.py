"""What can go wrong on a line between two servers, and to which requests it happens."""

from __future__ import annotations

import enum
from fnmatch import fnmatchcase

import msgspec


class Kind(enum.Enum):
    """What happens to a request."""

    DELAY = "delay"
    """It arrives `delay_ms` later."""
    HOLD = "hold"
    """It arrives when the fault is mended, and not before."""
    REFUSE = "refuse"
    """It does not arrive, and the connection ends at once, as when nobody listens there."""
    DROP = "drop"
    """It does not arrive, and nobody says so: whoever asked waits until they have had enough."""
    LOSE = "lose"
    """It arrives and is carried out, but its answer is not heard: the connection ends in its place."""
    CUT = "cut"
    """It arrives, and the connection ends in the middle of the answer."""
    CORRUPT = "corrupt"
    """One byte of the request's body, or of the answer's where the request has none, becomes another."""


class Fault(msgspec.Struct, frozen=True):
    """Something that happens to the requests that it fits."""

    kind: Kind
    origin: str | None = None
    """Only to those that this server signed; requests for keys and versions are nobody's. None: to all."""
    destination: str | None = None
    """Only to those that go to this server."""
    path: str = "*"
    """Only to paths like this, with `*` for anything: `/_matrix/federation/v1/send/*`."""
    times: int | None = None
    """To so many requests, and none after; None: to all, until it is mended."""
    delay_ms: int = 0

    def fits(self, origin: str | None, destination: str, path: str) -> bool:
        return (
            self.origin in (None, origin) and self.destination in (None, destination) and fnmatchcase(path, self.path)
        )


class Passage(msgspec.Struct, frozen=True):
    """A request that came over a line."""

    origin: str | None
    """Who signed it; None where nobody did."""
    destination: str
    method: str
    path: str
    """Without the query."""
    query: str
    status: int | None
    """Of the answer that went back; None where none did."""
    fault: Kind | None


class Passages(msgspec.Struct, frozen=True):
    """What came over the lines since a moment, oldest first; an answer that is still awaited is none yet."""

    next: int
    """The moment after these."""
    passages: list[Passage]


class NewLine(msgspec.Struct, frozen=True):
    """Where a server is found by the others, and where it answers really."""

    destination: str
    """The server's name."""
    host: str
    """The IP address to listen at."""
    port: int
    certificate_path: str
    key_path: str
    backend: int
    """The port of 127.0.0.1 where the server answers over plain HTTP."""
    well_known: str | None = None
    """What `/.well-known/matrix/server` says here, in the server's place."""

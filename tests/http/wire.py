"""A client that speaks HTTP to a `Site` without a network: bytes in, bytes out, on a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from attrs import define, field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock as Timers
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from config import RateLimit, RateLimits
from homeserver.clock import Clock
from homeserver.http.authenticate import Session, TokenAuthenticate
from homeserver.http.limits import RateLimiter
from homeserver.http.route import Requester
from homeserver.http.site import Channel, Site
from homeserver.http.table import RouteTable

ALICE = Requester("@alice:test.example", "PHONE", b"a")
GUEST = Requester("@guest:test.example", "WEB", b"g", is_guest=True)
ADMIN = Requester("@admin:test.example", "DESK", b"r", is_admin=True)


@frozen
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def errcode(self) -> str:
        return str(self.json.get("errcode"))


class Connection(StringTransport):
    """One connection to a site, from 192.0.2.7 unless told otherwise."""

    def __init__(self, site: Site, address: str = "192.0.2.7") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", address, 5555))
        self.channel: Channel = site.buildProtocol(None)
        self.aborted = False
        self.channel.makeConnection(self)

    def send(self, data: bytes) -> None:
        if not self.disconnecting:
            self.channel.dataReceived(data)

    def abortConnection(self) -> None:
        self.aborted = True
        self.hang_up()

    def hang_up(self) -> None:
        """The connection is gone, whoever ended it."""
        self.channel.connectionLost(Failure(ConnectionDone()))

    def responses(self, head: bool = False) -> list[Response]:
        """All complete answers so far; they are taken out."""
        rest, found = self.value(), []
        self.clear()
        while rest:
            top, _, rest = rest.partition(b"\r\n\r\n")
            first, *lines = top.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = 0 if head else int(headers.get("content-length", 0))
            found.append(Response(int(first.split()[1]), headers, rest[:length]))
            rest = rest[length:]
        return found


def request(
    method: str, path: str, body: object = None, *, token: str | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """A request as bytes. `body` may be bytes, or anything for JSON."""
    data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: test.example"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if data or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(data)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


@define
class Sessions:
    """Where `TokenAuthenticate` finds sessions: by the token's hash."""

    by_hash: dict[bytes, Session] = field(factory=dict)

    async def find_session(self, token_hash: bytes) -> Session | None:
        return self.by_hash.get(token_hash)


@define
class Wire:
    """A site over given routes, with tokens "alice", "guest" and "admin"."""

    site: Site
    timers: Timers
    answers: list[tuple[str, str, int]]

    @classmethod
    def to(
        cls,
        modules: Iterable[object],
        collaborators: Mapping[type[Any], object] | None = None,
        *,
        limits: RateLimits | None = None,
        **options: Any,
    ) -> Wire:
        from homeserver.http.authenticate import hash_token

        timers = Timers()
        clock = Clock(timers, lambda: int(timers.seconds() * 1000))
        known = {"alice": ALICE, "guest": GUEST, "admin": ADMIN}
        sessions = Sessions({hash_token(token): Session(who) for token, who in known.items()})
        answers: list[tuple[str, str, int]] = []
        site = Site(
            RouteTable(modules, collaborators or {}),
            TokenAuthenticate(sessions, clock),
            RateLimiter.of(limits or RateLimits(enabled=False), clock),
            reactor=timers,
            on_answer=lambda method, pattern, status, seconds: answers.append((method, pattern, status)),
            **options,
        )
        site.startFactory()
        return cls(site, timers, answers)

    def connect(self, address: str = "192.0.2.7") -> Connection:
        return Connection(self.site, address)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = "alice",
        headers: Mapping[str, str] | None = None,
        address: str = "192.0.2.7",
    ) -> Response:
        """One request on a connection of its own, which must be answered at once."""
        connection = self.connect(address)
        connection.send(request(method, path, body, token=token, headers=headers))
        (response,) = connection.responses(head=method == "HEAD")
        connection.hang_up()
        return response


def one_a_minute() -> RateLimits:
    """Limits under which everything may be done once."""
    tight = RateLimit(1 / 60, 1)
    return RateLimits(message=tight, read=tight, anonymous=tight)

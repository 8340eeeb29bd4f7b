"""HTTP to a `BusyHouse` without a network: connections that stay, requests one after the other on each."""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from homeserver.http.site import Channel, Site
from storage.accounts import Account, add_account
from tests.bench.busy import BusyHouse
from tests.fixtures_house import StillReactor
from tests.fixtures_rooms import user
from tests.http.wire import request

HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Content-Type": "application/json",
}


class _Transport(StringTransport):
    """Hands each answer over a moment after it came: ours are written whole, in one piece."""

    def __init__(self, reactor: StillReactor) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 5555))
        self._reactor = reactor
        self.expected: list[Deferred[bytes]] = []

    def write(self, data: bytes) -> None:
        self._reactor.callFromThread(self.expected.pop(0).callback, data)


@define
class Line:
    """One client's connection."""

    channel: Channel
    transport: _Transport

    def send(self, data: bytes) -> Deferred[bytes]:
        """Send a request's bytes; the whole answer's."""
        answer: Deferred[bytes] = Deferred()
        self.transport.expected.append(answer)
        self.channel.dataReceived(data)
        return answer

    def poll(self, token: str, since: str, timeout_ms: int = 0) -> Deferred[bytes]:
        path = f"/_matrix/client/v3/sync?since={since}&timeout={timeout_ms}"
        return self.send(ask("GET", path, token=token))


def ask(method: str, path: str, body: Any = None, *, token: str | None = None) -> bytes:
    """A request with the headers that a browser sends, more or less."""
    return request(method, path, body, token=token, headers=HEADERS)


@define
class Office:
    """Where connections come in."""

    house: BusyHouse
    site: Site

    @classmethod
    def of(cls, house: BusyHouse) -> Office:
        inner = house.house
        site = Site(
            inner.table,
            inner.accounts.sessions.authenticate,
            inner.limits,
            reactor=house.reactor.timers,
            federation=None if inner.federation is None else inner.federation.gate,
            on_answer=inner.metrics.answered,
        )
        return cls(house, site)

    def connect(self) -> Line:
        transport, channel = _Transport(self.house.reactor), self.site.buildProtocol(None)
        channel.makeConnection(transport)
        return Line(channel, transport)

    def log_in(self, name: str) -> str:
        """Make an account for somebody, and open a session that memory knows. Answers its token."""
        house = self.house
        house.wait(house.house.database.write(add_account, Account(user(name), None, 0)))
        opened = house.wait(house.house.accounts.sessions.open(user(name), device_id="DEVICE"))
        answer = house.wait(
            self.connect().send(ask("GET", "/_matrix/client/v3/account/whoami", token=opened.access_token))
        )
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return opened.access_token

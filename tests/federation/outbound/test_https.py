"""The real transport against real TLS servers on loopback."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from attrs import define, field
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater

from config import Tls
from federation.discovery.address import Address
from federation.discovery.private import AddressPolicy
from federation.gather import gather
from federation.outbound.dial import Dialer
from federation.outbound.https import HttpsTransport
from federation.outbound.pool import IDLE_S
from federation.outbound.tls import PeerTls
from federation.outbound.transport import BadAnswer, Request, Response, Unreachable
from federation.outbound.trust import BadAuthorities
from federation.outbound.turns import AT_ONCE, MOST_WAITING
from homeserver.http.tls import make_tls
from tests.federation.outbound.peers import OK, Basin, Heard, Names, Peer
from tests.fixtures_tls import Authority

NAME = "peer.example"
HOUR = datetime.timedelta(hours=1)


@define
class Stage:
    """A transport, and the peers that it talks to."""

    authority: Authority
    names: Names = field(factory=Names)
    peers: list[Peer] = field(factory=list)
    transports: list[HttpsTransport] = field(factory=list)

    def peer(self, *cert_names: str, tls: Tls | CertificateOptions | None = None, host: str = "127.0.0.1") -> Peer:
        """A new peer, called `NAME`, whose certificate is valid for `cert_names`."""
        peer = Peer()
        port = peer.listen(reactor, tls or self.authority.issue(*(cert_names or (NAME,))), host)
        self.peers.append(peer)
        self.names.addresses[NAME] = [Address("host.example", port, tls_name=NAME, host_header=NAME)]
        self.names.hosts["host.example"] = [host]
        return peer

    def transport(self, *, policy: AddressPolicy | None = None, timeout_s: float = 5) -> HttpsTransport:
        policy = policy or AddressPolicy.of(allow_loopback=True)
        dialer = Dialer(reactor, PeerTls(self.authority.ca_path), self.names, policy, timeout_s, 0.05)
        transport = HttpsTransport(self.names, dialer, reactor, "Tests/1")
        self.transports.append(transport)
        return transport

    async def close(self) -> None:
        for transport in self.transports:
            await transport.close()
        for peer in self.peers:
            await peer.close()
        await pause()


async def pause(seconds: float = 0.01) -> None:
    await deferLater(reactor, seconds, lambda: None)


def ask(path: str = "/_matrix/x", method: str = "GET", **more: object) -> Request:
    return Request(NAME, method, path, **more)  # type: ignore[arg-type]


@pytest_twisted.async_yield_fixture
async def stage(authority: Authority) -> AsyncIterator[Stage]:
    stage = Stage(authority)
    yield stage
    await stage.close()


@pytest_twisted.ensureDeferred
async def test_a_request_and_its_answer(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: b"HTTP/1.1 418 Teapot\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc"
    response = await stage.transport().send(ask("/_matrix/x?y=%20", "PUT", headers={"X-B": "c"}, body=b'{"a":1}'))
    assert response == Response(418, {"x-a": "b", "content-length": "3"}, b"abc")
    (heard,) = peer.heard
    assert heard.line == "PUT /_matrix/x?y=%20 HTTP/1.1"
    assert heard.headers == {"host": NAME, "user-agent": "Tests/1", "x-b": "c", "content-length": "7"}
    assert heard.body == b'{"a":1}'
    assert peer.sni == [NAME.encode()]


@pytest_twisted.ensureDeferred
async def test_a_connection_carries_one_request_after_the_other(stage: Stage) -> None:
    peer = stage.peer()
    transport = stage.transport()
    for _ in range(3):
        await transport.send(ask())
    assert [heard.connection for heard in peer.heard] == [0, 0, 0]
    assert transport.idle_connections == 1


@pytest_twisted.ensureDeferred
async def test_requests_at_the_same_time_have_a_connection_each_up_to_a_limit(stage: Stage) -> None:
    peer = stage.peer()
    transport = stage.transport()
    await gather(transport.send(ask(f"/{number}")) for number in range(3 * AT_ONCE))
    assert len(peer.heard) == 3 * AT_ONCE
    assert len(peer.connections) <= AT_ONCE


@pytest_twisted.ensureDeferred
async def test_too_many_waiting_requests_are_turned_away(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: b""  # it takes its time
    transport = stage.transport()
    waiting = [Deferred.fromCoroutine(transport.send(ask())) for _ in range(AT_ONCE + MOST_WAITING)]
    with pytest.raises(Unreachable, match="too many requests"):
        await transport.send(ask())
    await transport.close()
    for each in waiting:
        with pytest.raises(Unreachable, match="going down"):
            await each


# Host header and name for each kind of address. Spec: #resolving-server-names
CASES: list[tuple[str, str, str, list[bytes | None]]] = [
    ("127.0.0.1", "127.0.0.1", "127.0.0.1", [None]),  # no SNI of addresses
    ("127.0.0.1", "127.0.0.1", "127.0.0.1:8449", [None]),
    ("host.example", "peer.example", "peer.example", [b"peer.example"]),
    ("host.example", "peer.example", "peer.example:8449", [b"peer.example"]),
    ("host.example", "PEER.example", "PEER.example", [b"PEER.example"]),
    ("::1", "::1", "[::1]:8449", [None]),
]


@pytest.mark.parametrize(("host", "tls_name", "host_header", "sni"), CASES)
@pytest_twisted.ensureDeferred
async def test_who_must_be_there(
    stage: Stage, host: str, tls_name: str, host_header: str, sni: list[bytes | None]
) -> None:
    peer = stage.peer(tls_name, host="::1" if host == "::1" else "127.0.0.1")
    port = stage.names.addresses[NAME][0].port
    stage.names.addresses[NAME] = [Address(host, port, tls_name, host_header)]
    assert (await stage.transport().send(ask())).status == 200
    assert peer.heard[0].headers["host"] == host_header
    assert (peer.sni or [None]) == sni


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["other.example"], NAME),
        (["host.example"], NAME),  # what an SRV record or a look-up leads to proves nothing
        (["*.guild.example"], "a.b.guild.example"),
        (["*.guild.example"], "guild.example"),
        (["127.0.0.2"], "127.0.0.1"),
        ([NAME], "127.0.0.1"),
        (["127.0.0.1"], NAME),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_certificate_for_somebody_else(stage: Stage, names: Sequence[str], wanted: str) -> None:
    peer = stage.peer(*names)
    port = stage.names.addresses[NAME][0].port
    stage.names.addresses[NAME] = [Address("127.0.0.1", port, wanted, wanted)]
    with pytest.raises(Unreachable, match=f"not valid for {wanted}"):
        await stage.transport().send(ask(body=b"secret", method="PUT"))
    assert peer.heard == [], "nothing is sent to whom it is not for"


@pytest_twisted.ensureDeferred
async def test_a_wildcard_certificate(stage: Stage) -> None:
    stage.peer("*.guild.example")
    port = stage.names.addresses[NAME][0].port
    stage.names.addresses[NAME] = [Address("127.0.0.1", port, "a.guild.example", "a.guild.example")]
    assert (await stage.transport().send(ask())).status == 200


@pytest_twisted.ensureDeferred
async def test_an_authority_that_nobody_trusts(stage: Stage, strange_authority: Authority) -> None:
    peer = stage.peer(tls=strange_authority.issue(NAME))
    with pytest.raises(Unreachable, match="authority is not trusted"):
        await stage.transport().send(ask())
    assert peer.heard == []


@pytest.mark.parametrize(("since", "until", "why"), [(2 * HOUR, -HOUR, "expired"), (-HOUR, HOUR, "not valid yet")])
@pytest_twisted.ensureDeferred
async def test_certificates_out_of_time(
    stage: Stage, since: datetime.timedelta, until: datetime.timedelta, why: str
) -> None:
    peer = stage.peer(tls=stage.authority.issue(NAME, since=since, until=until))
    with pytest.raises(Unreachable, match=why):
        await stage.transport().send(ask())
    assert peer.heard == []


@pytest_twisted.ensureDeferred
async def test_tls_before_1_2(stage: Stage) -> None:
    options = make_tls(stage.authority.issue(NAME))
    context = options.getContext()
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    peer = stage.peer(tls=options)
    with pytest.raises(Unreachable, match="TLS failed"):
        await stage.transport().send(ask())
    assert peer.heard == []


@pytest_twisted.ensureDeferred
async def test_tls_1_2_is_enough(stage: Stage) -> None:
    options = make_tls(stage.authority.issue(NAME))
    options.getContext().set_max_proto_version(SSL.TLS1_2_VERSION)
    stage.peer(tls=options)
    assert (await stage.transport().send(ask())).status == 200


@pytest_twisted.ensureDeferred
async def test_private_addresses_are_refused_after_dns_too(stage: Stage) -> None:
    peer = stage.peer()
    port = stage.names.addresses[NAME][0].port
    for host in ("host.example", "127.0.0.1"):
        stage.names.addresses[NAME] = [Address(host, port, NAME, NAME)]
        with pytest.raises(Unreachable, match="private address") as caught:
            await stage.transport(policy=AddressPolicy.of()).send(ask())
        assert not caught.value.retryable
    await pause()
    assert peer.connections == []


@pytest_twisted.ensureDeferred
async def test_only_the_allowed_addresses_of_a_host_are_tried(stage: Stage) -> None:
    peer = stage.peer()
    stage.names.hosts["host.example"] = ["10.0.0.1", "192.168.1.1", "127.0.0.1"]
    assert (await stage.transport().send(ask())).status == 200
    assert len(peer.connections) == 1


@pytest_twisted.ensureDeferred
async def test_other_addresses_are_tried_where_one_is_dead(stage: Stage) -> None:
    stage.peer()
    stage.names.hosts["host.example"] = ["127.0.0.9", "::1", "127.0.0.1"]
    assert (await stage.transport().send(ask())).status == 200


@pytest_twisted.ensureDeferred
async def test_other_targets_are_tried_where_one_is_dead(stage: Stage) -> None:
    stage.peer()
    (good,) = stage.names.addresses[NAME]
    dead = [Address("127.0.0.1", 1, NAME, NAME), Address("nowhere.example", 1, NAME, NAME)]
    stage.names.addresses[NAME] = [*dead, good]
    assert (await stage.transport().send(ask())).status == 200


@pytest_twisted.ensureDeferred
async def test_nobody_is_there(stage: Stage) -> None:
    stage.names.addresses[NAME] = [Address("127.0.0.1", 1, NAME, NAME)]
    with pytest.raises(Unreachable, match="connection refused") as caught:
        await stage.transport().send(ask())
    assert caught.value.destination == NAME
    assert caught.value.retryable
    stage.names.addresses[NAME] = [Address("nowhere.example", 1, NAME, NAME)]
    with pytest.raises(Unreachable, match="has no address"):
        await stage.transport().send(ask())


@pytest.mark.parametrize("name", ["12345", "0"])
@pytest_twisted.ensureDeferred
async def test_names_that_no_certificate_can_have(stage: Stage, name: str) -> None:
    stage.names.addresses[NAME] = [Address("127.0.0.1", 1, name, name)]
    with pytest.raises(Unreachable):
        await stage.transport().send(ask())


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_answers(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow"
    transport = stage.transport()
    with pytest.raises(Unreachable, match="no answer within"):
        await transport.send(ask(timeout_s=0.2))
    await pause(0.05)
    assert not peer.connections[0].open, "the connection is not kept"
    assert transport.idle_connections == 0


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_shakes_hands(stage: Stage) -> None:
    """It takes the connection, and says nothing."""
    port: Any = reactor.listenTCP(0, cast(Any, Factory.forProtocol(Protocol)), interface="127.0.0.1")
    stage.names.addresses[NAME] = [Address("127.0.0.1", port.getHost().port, NAME, NAME)]
    try:
        with pytest.raises(Unreachable, match=r"no connection within 0\.2 s"):
            await stage.transport(timeout_s=0.2).send(ask())
    finally:
        await port.stopListening()


@pytest.mark.parametrize(
    "data",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000,
    ],
)
@pytest_twisted.ensureDeferred
async def test_answers_that_are_none_or_too_large(stage: Stage, data: bytes) -> None:
    peer = stage.peer()
    peer.script = lambda heard: data
    transport = stage.transport()
    with pytest.raises(BadAnswer):
        await transport.send(ask(max_bytes=1000))
    await pause(0.05)
    assert not peer.connections[0].open
    assert transport.idle_connections == 0


@pytest_twisted.ensureDeferred
async def test_a_connection_that_breaks(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: None
    with pytest.raises(Unreachable, match="ended"):
        await stage.transport().send(ask())


def _closing_on_the_second(heard: Heard) -> bytes | None:
    return OK if heard.connection > 0 or heard.line.endswith("first HTTP/1.1") else None


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_closed_while_idle_costs_nothing(stage: Stage, method: str) -> None:
    peer = stage.peer()
    peer.script = _closing_on_the_second
    transport = stage.transport()
    await transport.send(ask("/first"))
    assert (await transport.send(ask("/second", method))).status == 200
    assert [heard.connection for heard in peer.heard] == [0, 0, 1]


@pytest_twisted.ensureDeferred
async def test_what_must_not_be_done_twice_is_not_sent_twice(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = _closing_on_the_second
    transport = stage.transport()
    await transport.send(ask("/first"))
    with pytest.raises(Unreachable):
        await transport.send(ask("/second", "POST", body=b"{}"))
    assert len(peer.heard) == 2


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_peer_closes_is_forgotten(stage: Stage) -> None:
    peer = stage.peer()
    transport = stage.transport()
    await transport.send(ask())
    peer.connections[0].drop()
    await pause(0.05)
    assert transport.idle_connections == 0
    assert (await transport.send(ask(method="POST", body=b"{}"))).status == 200


@pytest_twisted.ensureDeferred
async def test_what_nobody_asked_for_ends_the_connection(stage: Stage) -> None:
    """A second answer, sent ahead, would be taken for that of the next request."""
    peer = stage.peer()
    peer.script = lambda heard: OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{'lie'}"
    transport = stage.transport()
    for _ in range(2):
        assert (await transport.send(ask())).body == b"{}"
    assert [heard.connection for heard in peer.heard] == [0, 1]


@pytest_twisted.ensureDeferred
async def test_giving_up_ends_the_connection(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: b""
    transport = stage.transport()
    waiting = Deferred.fromCoroutine(transport.send(ask()))
    while not peer.heard:
        await pause()
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await pause(0.05)
    assert not peer.connections[0].open


@pytest_twisted.ensureDeferred
async def test_after_closing(stage: Stage) -> None:
    peer = stage.peer()
    transport = stage.transport()
    await transport.send(ask())
    await transport.close()
    await pause(0.05)
    assert not peer.connections[0].open
    with pytest.raises(Unreachable, match="going down"):
        await transport.send(ask())


@pytest_twisted.ensureDeferred
async def test_one_slow_destination_holds_up_no_other(stage: Stage) -> None:
    slow = stage.peer()
    slow.script = lambda heard: b""
    stage.names.addresses["slow.example"] = stage.names.addresses[NAME]
    stage.peer()
    transport = stage.transport()
    waiting = [Deferred.fromCoroutine(transport.send(Request("slow.example", "GET", "/"))) for _ in range(AT_ONCE + 5)]
    assert (await transport.send(ask())).status == 200
    for each in waiting:
        each.cancel()
        with pytest.raises(CancelledError):
            await each


def large(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest_twisted.ensureDeferred
async def test_a_body_goes_to_a_sink(stage: Stage) -> None:
    body = bytes(range(256)) * 4000
    peer = stage.peer()
    peer.script = lambda heard: large(body)
    transport = stage.transport()
    for _ in range(2):
        basin = Basin()
        response = await transport.send(ask(sink=basin, max_bytes=len(body)))
        assert (response.status, response.body) == (200, b"")
        assert basin.headers is not None
        assert basin.headers["content-type"] == "a/b"
        assert basin.body == body
        assert max(map(len, basin.pieces)) <= 64 * 1024, "never whole in memory"
    assert [heard.connection for heard in peer.heard] == [0, 0], "and the connection is as good as new"


@pytest_twisted.ensureDeferred
async def test_a_sink_that_is_slow_slows_the_peer_down(stage: Stage) -> None:
    """What does not fit into the buffers of the sockets between them stays where it is."""
    body = b"x" * 20_000_000
    peer = stage.peer()
    peer.script = lambda heard: large(body)
    basin = Basin(gates=[])
    assert basin.gates is not None
    waiting = Deferred.fromCoroutine(stage.transport().send(ask(sink=basin, max_bytes=len(body))))
    while not basin.gates:
        await pause()
    left = 0
    while left != peer.connections[0].unsent_bytes:
        left = peer.connections[0].unsent_bytes
        await pause(0.2)
    assert len(basin.pieces) == 1
    assert len(basin.body) <= 64 * 1024
    assert peer.connections[0].unsent_bytes > 5_000_000, "the peer could not get rid of the rest"
    gates, basin.gates = basin.gates, None
    gates[0].callback(None)
    assert (await waiting).status == 200
    assert basin.body == body


@pytest_twisted.ensureDeferred
async def test_what_comes_while_a_sink_is_busy_is_not_lost(stage: Stage) -> None:
    """The end of the connection too, which is the end of the body."""
    peer = stage.peer()
    peer.script = lambda heard: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000
    basin = Basin(gates=[])
    assert basin.gates is not None
    waiting = Deferred.fromCoroutine(stage.transport().send(ask(sink=basin)))
    while not basin.gates:
        await pause()
    peer.connections[0].hang_up()
    await pause(0.1)
    while not waiting.called:
        for gate in basin.gates:
            if not gate.called:
                gate.callback(None)
        await pause()
    assert (await waiting).status == 200
    assert len(basin.body) == 100_000


@pytest.mark.parametrize("breaks_at", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_sink_that_breaks_ends_the_request(stage: Stage, breaks_at: int) -> None:
    peer = stage.peer()
    peer.script = lambda heard: large(b"x" * 1_000_000)
    transport = stage.transport()
    with pytest.raises(OSError, match="no space left"):
        await transport.send(ask(sink=Basin(breaks_at=breaks_at), max_bytes=1_000_000))
    await pause(0.05)
    assert not peer.connections[0].open
    assert transport.idle_connections == 0


@pytest_twisted.ensureDeferred
async def test_a_sink_is_told_nothing_of_errors(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: large(b'{"errcode": "M_NOT_FOUND"}', b"404 Not Found")
    basin = Basin()
    response = await stage.transport().send(ask(sink=basin))
    assert (response.status, response.body) == (404, b'{"errcode": "M_NOT_FOUND"}')
    assert basin.headers is None
    peer.script = lambda heard: large(b"x" * 100_000, b"404 Not Found")
    with pytest.raises(BadAnswer, match="larger"):
        await stage.transport().send(ask(sink=Basin(), max_bytes=10_000_000))


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1f4\r\n"
        + b"x" * 500
        + b"\r\n1f5\r\n"
        + b"x" * 501,
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_more_than_asked_for_goes_to_a_sink(stage: Stage, data: bytes) -> None:
    peer = stage.peer()
    peer.script = lambda heard: data
    basin = Basin()
    with pytest.raises(BadAnswer, match="larger than 1000 bytes"):
        await stage.transport().send(ask(sink=basin, max_bytes=1000))
    assert len(basin.body) <= 1000


@pytest_twisted.ensureDeferred
async def test_giving_up_while_a_sink_is_busy(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: large(b"x" * 1_000_000)
    basin = Basin(gates=[])
    assert basin.gates is not None
    with pytest.raises(Unreachable, match="no answer within"):
        await stage.transport().send(ask(sink=basin, max_bytes=1_000_000, timeout_s=0.3))
    assert len(basin.gates) == 1
    await pause(0.05)
    assert not peer.connections[0].open
    assert len(basin.pieces) == 1, "and it is left alone then"


@pytest_twisted.ensureDeferred
async def test_large_bodies_hold_up_nothing_else(stage: Stage) -> None:
    peer = stage.peer()
    peer.script = lambda heard: b"" if "large" in heard.line else OK
    transport = stage.transport()
    waiting = [Deferred.fromCoroutine(transport.send(ask("/large", sink=Basin()))) for _ in range(AT_ONCE + 1)]
    assert (await transport.send(ask("/small"))).status == 200
    for each in waiting:
        each.cancel()
        with pytest.raises(CancelledError):
            await each


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadAuthorities, match=r"nowhere\.pem"):
        PeerTls(tmp_path / "nowhere.pem")
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(BadAuthorities, match=r"empty\.pem"):
        PeerTls(empty)


def test_connections_are_not_kept_longer_than_servers_keep_them() -> None:
    assert IDLE_S < 60

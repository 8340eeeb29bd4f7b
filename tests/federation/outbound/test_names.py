"""Looking names up: by the system, and from a name server of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.server import DNSServerFactory

from federation.discovery.ports import DiscoveryFailed, SrvAnswer, SrvRecord
from federation.outbound.names import NameServers, SystemAddresses, read_resolv_conf
from federation.threads import Threads

ZONE = "guild.example"
SERVICE = f"_matrix-fed._tcp.{ZONE}"


def _record(priority: int, weight: int, port: int, target: str, ttl: int = 300) -> Any:
    return dns.Record_SRV(priority, weight, port, target, ttl)


class Zone(FileAuthority):
    """What one name server knows."""

    soa: Any
    records: Any

    def __init__(self, records: dict[bytes, list[Any]]) -> None:
        self.soa = (ZONE.encode(), dns.Record_SOA(ZONE.encode(), b"admin", 1, 1, 1, 1, 1, 1))
        self.records = {ZONE.encode(): [self.soa[1]], **records}
        super().__init__("")


class Failing(DatagramProtocol):
    """A name server that answers every question with one error."""

    def __init__(self, code: int) -> None:
        self._code = code

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        assert self.transport is not None
        self.transport.write(datagram[:2] + bytes([0x80, self._code]) + datagram[4:], addr)


@define
class NameServer:
    """A name server of one zone on loopback."""

    records: dict[bytes, list[Any]] = field(factory=dict)
    port: int = 0
    _ports: list[Any] = field(factory=list)

    def listen(self) -> None:
        factory: Any = DNSServerFactory(authorities=[Zone(self.records)])
        every: Any = reactor
        while not self._ports:
            udp = every.listenUDP(0, dns.DNSDatagramProtocol(factory), interface="127.0.0.1")
            self.port = udp.getHost().port
            try:
                self._ports = [udp, every.listenTCP(self.port, factory, interface="127.0.0.1")]
            except CannotListenError:  # somebody has that port for TCP
                udp.stopListening()

    async def close(self) -> None:
        for port in self._ports:
            await port.stopListening()


@pytest_twisted.async_yield_fixture
async def name_server() -> AsyncIterator[NameServer]:
    server = NameServer()
    yield server
    await server.close()


async def look_up(server: NameServer, name: str) -> SrvAnswer:
    server.listen()
    return await NameServers(reactor, [("127.0.0.1", server.port)]).lookup(name)


@pytest_twisted.ensureDeferred
async def test_records(name_server: NameServer) -> None:
    name_server.records[SERVICE.encode()] = [
        _record(10, 5, 443, "a.guild.example"),
        _record(20, 0, 8448, "B.example", 60),
    ]
    answer = await look_up(name_server, SERVICE)
    assert sorted(answer.records) == [SrvRecord(10, 5, 443, "a.guild.example"), SrvRecord(20, 0, 8448, "B.example")]
    assert answer.ttl_s == 60


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_not_to_be_had(name_server: NameServer) -> None:
    name_server.records[SERVICE.encode()] = [_record(0, 0, 0, "")]
    assert (await look_up(name_server, SERVICE)).records == [SrvRecord(0, 0, 0, "")]


@pytest_twisted.ensureDeferred
async def test_many_records_come_over_tcp(name_server: NameServer) -> None:
    targets = [f"target-{number}-of-a-service-with-a-long-name.guild.example" for number in range(60)]
    name_server.records[SERVICE.encode()] = [_record(1, 1, 443, target) for target in targets]
    assert len((await look_up(name_server, SERVICE)).records) == len(targets)


@pytest_twisted.ensureDeferred
async def test_no_such_name(name_server: NameServer) -> None:
    assert await look_up(name_server, SERVICE) == SrvAnswer(())


@pytest_twisted.ensureDeferred
async def test_records_of_other_kinds_only(name_server: NameServer) -> None:
    name_server.records[SERVICE.encode()] = [dns.Record_TXT(b"hello")]
    assert (await look_up(name_server, SERVICE)).records == []


@pytest.mark.parametrize("code", [dns.EFORMAT, dns.ESERVER, dns.ENOTIMP, dns.EREFUSED])
@pytest_twisted.ensureDeferred
async def test_a_server_that_fails(code: int) -> None:
    every: Any = reactor
    port = every.listenUDP(0, Failing(code), interface="127.0.0.1")
    try:
        with pytest.raises(DiscoveryFailed):
            await NameServers(reactor, [("127.0.0.1", port.getHost().port)]).lookup(SERVICE)
    finally:
        await port.stopListening()


@pytest.mark.parametrize("name", ["_matrix-fed._tcp." + "a" * 64 + ".example", "_matrix-fed._tcp.a..b", "." * 5])
@pytest_twisted.ensureDeferred
async def test_names_that_dns_cannot_hold(name_server: NameServer, name: str) -> None:
    try:
        answer = await look_up(name_server, name)
    except DiscoveryFailed:
        return
    assert answer.records == ()


@pytest_twisted.ensureDeferred
async def test_addresses() -> None:
    threads = Threads(reactor, 2, "test")  # type: ignore[arg-type]
    try:
        addresses = SystemAddresses(threads)
        assert "127.0.0.1" in await addresses.lookup("localhost")
        for name in ("nothing.invalid", "a" * 64 + ".example", "a..b", "", "\0"):
            with pytest.raises(DiscoveryFailed):
                await addresses.lookup(name)
    finally:
        threads.close()


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", ["192.0.2.1", "2001:db8::1"]),
        ("# nameserver 1.1.1.1\nsearch example.org\noptions ndots:1\nnameserver\t192.0.2.1 # ours", ["192.0.2.1"]),
        ("nameserver fe80::1%eth0\nnameserver nonsense\nnameserver", ["127.0.0.1"]),
        ("", ["127.0.0.1"]),
    ],
)
def test_resolv_conf(text: str, servers: list[str]) -> None:
    assert read_resolv_conf(text) == [(server, 53) for server in servers]


def test_threads_hand_back_what_is_raised() -> None:
    from tests.fixtures_db import Pump

    pump = Pump()
    threads = Threads(pump, 2, "test")
    assert pump.wait(threads.run(sum, [1, 2])) == 3
    with pytest.raises(ZeroDivisionError):
        pump.wait(threads.run(divmod, 1, 0))
    waiting = [threads.run(pow, 2, number) for number in range(20)]
    assert [pump.wait(each) for each in waiting] == [2**number for number in range(20)]
    threads.close()

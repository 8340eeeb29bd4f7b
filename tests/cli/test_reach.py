"""What `check` says of how others find this server: on fakes, and on a whole server on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor

from config import make_settings
from federation.discovery.ports import DiscoveryFailed, Page, SrvAnswer, SrvRecord
from federation.discovery.private import AddressPolicy
from federation.outbound.dial import Dialer
from federation.outbound.tls import PeerTls
from federation.outbound.transport import Request, Response, Unreachable
from homeserver.cli.findings import Finding
from homeserver.cli.reach.clients import check_clients
from homeserver.cli.reach.peers import check_peers
from homeserver.cli.reach.way_out import check_way_out, skew
from homeserver.cli.reach.world import World
from tests.federation.outbound.peers import Heard, Names, Peer
from tests.fixtures_server import ROOT
from tests.fixtures_tls import DAY, Authority, https_server

NAME = "guild.example"
HOST = "matrix.guild.example"
SERVER_FILE = f"https://{NAME}/.well-known/matrix/server"
CLIENT_FILE = f"https://{NAME}/.well-known/matrix/client"
VERSIONS = f"https://{HOST}/_matrix/client/versions"


def _json(value: object, **headers: str) -> Page:
    return Page(200, {name.replace("_", "-"): text for name, text in headers.items()}, json.dumps(value).encode())


@define
class Stage:
    """A world of a few names. What listens on loopback is a real TLS server."""

    authority: Authority
    pages: dict[str, Page] = field(factory=dict)
    services: dict[str, list[SrvRecord]] = field(factory=dict)
    names: Names = field(factory=Names)
    peer: Peer = field(factory=Peer)
    keys: Mapping[str, Any] = field(factory=lambda: {"server_name": NAME, "verify_keys": {"ed25519:a": {"key": "x"}}})
    notary: Response | None = None
    is_running: bool = True

    async def get(self, url: str) -> Page:
        if url not in self.pages:
            raise DiscoveryFailed(f"{url}: connection refused")
        return self.pages[url]

    async def lookup(self, name: str) -> SrvAnswer:
        return SrvAnswer(self.services.get(name, []))

    async def send(self, request: Request) -> Response:
        if self.notary is None:
            raise Unreachable(request.destination, "no network")
        return self.notary

    async def close(self) -> None: ...

    def listen(self, *names: str, **validity: Any) -> int:
        """The server itself, with a certificate for `names`; its port."""
        self.peer.script = self._answer
        return self.peer.listen(reactor, self.authority.issue(*names, **validity))

    def _answer(self, heard: Heard) -> bytes:
        body = json.dumps(self.keys).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    def world(self, name: str = NAME, **federation: Any) -> World:
        values = {
            "server": {"name": name, "public_baseurl": f"https://{HOST}"},
            "federation": {"allow_loopback": True, "notaries": ["notary.example"], **federation},
        }
        everywhere = AddressPolicy.of(("0.0.0.0/0", "::/0"))
        dialer = Dialer(reactor, PeerTls(self.authority.ca_path), self.names, everywhere, 5)
        timers: Any = reactor
        return World(
            settings=make_settings(values),
            key_ids=["ed25519:a"],
            is_running=self.is_running,
            web=self,
            srv=self,
            addresses=self.names,
            dialer=dialer,
            transport=self,
            timers=timers,
        )


@pytest_twisted.async_yield_fixture
async def stage(authority: Authority) -> AsyncIterator[Stage]:
    stage = Stage(authority)
    yield stage
    await stage.peer.close()


def _told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level.value, finding.subject) for finding in findings]


@pytest_twisted.ensureDeferred
async def test_all_is_well(stage: Stage) -> None:
    port = stage.listen(HOST, until=60 * DAY)
    stage.pages[SERVER_FILE] = _json({"m.server": f"{HOST}:{port}"})
    stage.names.hosts[HOST] = ["127.0.0.1"]
    findings = await check_peers(stage.world())
    assert _told(findings)[1:] == [("good", "DNS"), ("good", "certificate"), ("good", "federation")], findings
    assert f"says {HOST}:{port}, and by public_baseurl this server would say {HOST}:443" in findings[0].text
    assert f"{HOST} port {port} leads to this server" in findings[-1].text


@pytest_twisted.ensureDeferred
async def test_by_srv_records(stage: Stage) -> None:
    port = stage.listen(NAME, until=60 * DAY)
    stage.names.hosts["box.example"] = ["127.0.0.1"]
    record = SrvRecord(10, 0, port, "box.example")
    stage.services[f"_matrix._tcp.{NAME}"] = [record]
    findings = await check_peers(stage.world())
    assert "cannot be had" in findings[0].text
    assert "is deprecated" in findings[1].text
    assert _told(findings)[1:] == [
        ("warning", "SRV"), ("good", "DNS"), ("good", "certificate"), ("good", "federation"),
    ]  # fmt: skip
    stage.services[f"_matrix-fed._tcp.{NAME}"] = [record]
    assert _told(await check_peers(stage.world()))[1] == ("good", "SRV")
    stage.services[f"_matrix-fed._tcp.{NAME}"] = [SrvRecord(0, 0, 0, "")]
    assert _told(await check_peers(stage.world()))[1:] == [("bad", "SRV")]


@pytest_twisted.ensureDeferred
async def test_a_name_with_a_port(stage: Stage) -> None:
    port = stage.listen("127.0.0.1", until=60 * DAY)
    stage.keys = {**stage.keys, "server_name": f"127.0.0.1:{port}"}
    findings = await check_peers(stage.world(f"127.0.0.1:{port}"))
    assert _told(findings) == [("good", "delegation"), ("good", "certificate"), ("good", "federation")]


@pytest.mark.parametrize(
    ("names", "validity", "words"),
    [
        ([NAME], {}, "its certificate is not valid for matrix.guild.example"),
        ([HOST], {"since": 9 * DAY, "until": -DAY}, "its certificate: it has expired"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_certificates(stage: Stage, names: list[str], validity: Any, words: str) -> None:
    port = stage.listen(*names, **validity)
    stage.pages[SERVER_FILE] = _json({"m.server": f"{HOST}:{port}"})
    stage.names.hosts[HOST] = ["127.0.0.1"]
    *_, last = await check_peers(stage.world())
    assert (last.level.value, last.subject) == ("bad", "federation")
    assert words in last.text


@pytest_twisted.ensureDeferred
async def test_somebody_else_answers(stage: Stage) -> None:
    port = stage.listen(HOST)
    stage.pages[SERVER_FILE] = _json({"m.server": f"{HOST}:{port}"})
    stage.names.hosts[HOST] = ["127.0.0.1"]
    mine = stage.keys
    stage.keys = {**mine, "server_name": "other.example"}
    assert "answers another server, other.example" in (await check_peers(stage.world()))[-1].text
    stage.keys = {**mine, "verify_keys": {"ed25519:b": {}}}
    *_, certificate, last = await check_peers(stage.world())
    assert last.level.is_bad and "with other keys: ed25519:b, and not ed25519:a" in last.text
    assert "expires in 0 days" in certificate.text
    stage.keys = {}
    assert "does not answer like a homeserver" in (await check_peers(stage.world()))[-1].text


@pytest_twisted.ensureDeferred
async def test_nobody_answers(stage: Stage) -> None:
    port = stage.listen(HOST)
    await stage.peer.close()
    stage.pages[SERVER_FILE] = _json({"m.server": f"{HOST}:{port}"})
    assert _told(await check_peers(stage.world()))[1:] == [("bad", "DNS")]
    stage.names.hosts[HOST] = ["127.0.0.1"]
    last = (await check_peers(stage.world()))[-1]
    assert last.level.is_bad and "connection refused" in last.text
    stage.is_running = False
    last = (await check_peers(stage.world()))[-1]
    assert not last.level.is_bad and last.text.endswith("(the server is not running)")
    (_, dns, _) = await check_peers(stage.world(allow_loopback=False))
    assert (dns.level.value, "and private" in dns.text) == ("warning", True)
    assert await check_peers(stage.world(enabled=False)) == []


@pytest.mark.parametrize("page", [Page(404, {}, b""), _json({"m.server": 5}), _json([])])
@pytest_twisted.ensureDeferred
async def test_a_file_that_delegates_to_nobody(stage: Stage, page: Page) -> None:
    stage.pages[SERVER_FILE] = page
    first = (await check_peers(stage.world()))[0]
    assert (first.level.value, f"so others look for {NAME} by DNS" in first.text) == ("warning", True)


@pytest.mark.parametrize(
    ("pages", "told"),
    [
        ({}, ["bad", "warning"]),
        ({VERSIONS: Page(502, {}, b"")}, ["bad", "warning"]),
        ({VERSIONS: _json({"versions": []}), CLIENT_FILE: Page(404, {}, b"")}, ["good", "warning"]),
        ({VERSIONS: _json({"versions": []}), CLIENT_FILE: _json({"m.homeserver": 5})}, ["good", "warning"]),
        (
            {
                VERSIONS: _json({"versions": []}),
                CLIENT_FILE: _json({"m.homeserver": {"base_url": "https://x.example"}}),
            },
            ["good", "bad"],
        ),
        (
            {VERSIONS: _json({"versions": []}), CLIENT_FILE: _json({"m.homeserver": {"base_url": f"https://{HOST}/"}})},
            ["good", "warning"],
        ),
        (
            {
                VERSIONS: _json({"versions": []}),
                CLIENT_FILE: _json({"m.homeserver": {"base_url": f"https://{HOST}/"}}, access_control_allow_origin="*"),
            },
            ["good", "good"],
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_clients(stage: Stage, pages: dict[str, Page], told: list[str]) -> None:
    stage.pages = pages
    assert _told(await check_clients(stage.world())) == [(level, "clients") for level in told]


@pytest_twisted.ensureDeferred
async def test_the_way_out(stage: Stage) -> None:
    assert _told(await check_way_out(stage.world())) == [("warning", "way out")]
    stage.notary = Response(200, {}, b"{}")
    assert _told(await check_way_out(stage.world())) == [("good", "way out")]
    stage.notary = Response(200, {"date": formatdate(time.time(), usegmt=True)}, b"{}")
    assert _told(await check_way_out(stage.world())) == [("good", "way out"), ("good", "clock")]
    stage.notary = Response(200, {"date": formatdate(time.time() + 90, usegmt=True)}, b"{}")
    _, clock = await check_way_out(stage.world())
    assert clock.level.value == "warning"
    assert " s behind that of notary.example: does NTP run here?" in clock.text
    assert await check_way_out(stage.world(notaries=[])) == []


@pytest.mark.parametrize(
    ("asked_s", "answered_s", "ahead_s"),
    [(100, 100, 0), (99, 105, 0), (100.9, 101, 0), (110, 111, 9), (80, 81, -19)],
)
def test_skew(asked_s: float, answered_s: float, ahead_s: float) -> None:
    assert skew(asked_s, answered_s, formatdate(100, usegmt=True)) == ahead_s
    assert skew(asked_s, answered_s, "yesterday") is None


def test_a_whole_server(tmp_path: Path, authority: Authority) -> None:
    """Its name says where it is; its certificate is one for that name, and it answers itself as its own notary."""
    tls = authority.issue("localhost", until=60 * DAY)
    with https_server(tls, tmp_path, federation__ca_path=str(authority.ca_path)) as server:
        until = time.monotonic() + 30
        while True:
            checked = subprocess.run(
                [sys.executable, "-m", "homeserver", "check", "-c", str(server.settings_path)],
                cwd=ROOT,
                env=server.environ,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if checked.returncode == 0 and "a homeserver answers there already" in checked.stdout:
                break
            assert time.monotonic() < until, checked.stdout + checked.stderr
    lines = [" ".join(line.split()) for line in checked.stdout.splitlines()]
    assert f"✓ federation localhost port {server.port} leads to this server" in lines, checked.stdout
    assert not [line for line in lines if line.startswith("✗")]

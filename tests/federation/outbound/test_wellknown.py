"""Fetching `.well-known` from real TLS servers on loopback, whatever they answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor

from federation.discovery.ports import DiscoveryFailed
from federation.discovery.private import AddressPolicy
from federation.outbound import wellknown
from federation.outbound.dial import Dialer
from federation.outbound.tls import PeerTls
from federation.outbound.web_client import WebClient
from federation.outbound.wellknown import MAX_BYTES, MAX_REDIRECTS, HttpsWellKnown
from tests.federation.outbound.peers import Heard, Names, Peer
from tests.fixtures_tls import Authority

HOST = "guild.example"


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")


def found(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@define
class Ports:
    """A reactor in which port 443 of loopback is wherever the test's server listens."""

    https: int = 0

    def connectTCP(self, host: str, port: int, *rest: Any, **more: Any) -> Any:
        everything: Any = reactor
        return everything.connectTCP(host, self.https if port == 443 else port, *rest, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


@define
class Web:
    peer: Peer
    fetcher: HttpsWellKnown
    names: Names
    port: int
    pages: dict[str, bytes] = field(factory=dict)

    def answer(self, heard: Heard) -> bytes | None:
        """By host and path."""
        return self.pages.get(
            heard.headers["host"] + heard.line.split(" ")[1], b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
        )


@pytest_twisted.async_yield_fixture
async def web(authority: Authority) -> AsyncIterator[Web]:
    peer, names, ports = Peer(), Names(hosts={HOST: ["127.0.0.1"], "www.guild.example": ["127.0.0.1"]}), Ports()
    ports.https = peer.listen(reactor, authority.issue(HOST, "www.guild.example"))
    dialer = Dialer(ports, PeerTls(authority.ca_path), names, AddressPolicy.of(allow_loopback=True), 5)
    web = Web(peer, HttpsWellKnown(WebClient(dialer, ports, "Tests/1")), names, ports.https)  # type: ignore[arg-type]
    peer.script = web.answer
    yield web
    await peer.close()


PATH = "/.well-known/matrix/server"


@pytest_twisted.ensureDeferred
async def test_a_page(web: Web) -> None:
    web.pages[HOST + PATH] = found(b'{"m.server": "a"}')
    page = await web.fetcher.fetch(HOST)
    assert (page.status, page.body, page.headers["cache-control"]) == (200, b'{"m.server": "a"}', "max-age=60")
    (heard,) = web.peer.heard
    assert heard.headers["host"] == HOST
    assert web.peer.sni == [HOST.encode()]
    assert "authorization" not in heard.headers


@pytest_twisted.ensureDeferred
async def test_no_page(web: Web) -> None:
    assert (await web.fetcher.fetch(HOST)).status == 404


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest_twisted.ensureDeferred
async def test_redirects(web: Web, status: int) -> None:
    web.pages[HOST + PATH] = redirect("https://www.guild.example/a?b=c#d", status)
    web.pages["www.guild.example/a?b=c"] = redirect("e")
    web.pages["www.guild.example/e"] = redirect(f"https://{HOST}:{web.port}/")
    web.pages[f"{HOST}:{web.port}/"] = found(b"{}")
    page = await web.fetcher.fetch(HOST)
    assert (page.status, page.body) == (200, b"{}")
    assert len(web.peer.heard) == 4
    assert web.peer.sni[1] == b"www.guild.example"


@pytest.mark.parametrize(
    "location",
    ["http://guild.example/", "/.well-known/matrix/server", "", "https://", "https://guild.example:0/",
     "https://guild.example:99999/", "https://a:b@guild.example/", "https://guild.example/a b", "ftp://guild.example/",
     "https://guild.example/\xe4", "https://[::1/", "//", "javascript:alert(1)"],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_redirects_that_are_not_followed(web: Web, location: str) -> None:
    web.pages[HOST + PATH] = redirect(location)
    assert (await web.fetcher.fetch(HOST)).status == 302
    assert len(web.peer.heard) == 1


@pytest_twisted.ensureDeferred
async def test_endless_redirects(web: Web) -> None:
    web.pages[HOST + PATH] = redirect("/0")
    for number in range(20):
        web.pages[f"{HOST}/{number}"] = redirect(f"/{number + 1}")
    assert (await web.fetcher.fetch(HOST)).status == 302
    assert len(web.peer.heard) == MAX_REDIRECTS + 1


@pytest_twisted.ensureDeferred
async def test_circles(web: Web) -> None:
    web.pages[HOST + PATH] = redirect("/a")
    web.pages[f"{HOST}/a"] = redirect("/b")
    web.pages[f"{HOST}/b"] = redirect("/a")
    assert (await web.fetcher.fetch(HOST)).status == 302
    assert len(web.peer.heard) == 3


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (found(b"x" * (MAX_BYTES + 1)), "larger than"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BYTES + 1), "larger than"),
        (b"nonsense\r\n\r\n", "speak HTTP"),
        (None, "ended"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_answers_that_are_none(web: Web, answer: bytes | None, why: str) -> None:
    web.peer.script = lambda heard: answer
    with pytest.raises(DiscoveryFailed, match=why):
        await web.fetcher.fetch(HOST)


@pytest_twisted.ensureDeferred
async def test_a_host_that_drips(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wellknown, "TIMEOUT_S", 0.2)
    web.peer.script = lambda heard: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
    with pytest.raises(DiscoveryFailed, match="no answer within"):
        await web.fetcher.fetch(HOST)


@pytest.mark.parametrize(
    ("hosts", "why"),
    [({}, "no address"), ({HOST: ["10.0.0.1"]}, "private address"), ({HOST: ["::1"]}, "refused")],
)
@pytest_twisted.ensureDeferred
async def test_hosts_that_cannot_be_asked(web: Web, hosts: dict[str, list[str]], why: str) -> None:
    web.names.hosts = dict(hosts)
    with pytest.raises(DiscoveryFailed, match=why):
        await web.fetcher.fetch(HOST)


@pytest_twisted.ensureDeferred
async def test_a_redirect_to_a_private_address(web: Web) -> None:
    """`.well-known` is no way to make this server ask the network it stands in."""
    web.names.hosts["inside.example"] = ["192.168.0.1"]
    for target in ("https://inside.example/", "https://192.168.0.1/", "https://[fe80::1]/"):
        web.pages[HOST + PATH] = redirect(target)
        with pytest.raises(DiscoveryFailed, match="private address"):
            await web.fetcher.fetch(HOST)


@pytest_twisted.ensureDeferred
async def test_a_certificate_for_somebody_else(web: Web) -> None:
    web.names.hosts["other.example"] = ["127.0.0.1"]
    with pytest.raises(DiscoveryFailed, match="not valid for other"):
        await web.fetcher.fetch("other.example")

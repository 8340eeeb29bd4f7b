"""Fetching from real servers on loopback, plain and encrypted, whatever they answer and wherever they redirect."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.task import deferLater

from federation.discovery.private import AddressPolicy
from federation.outbound.client import FederationClient
from federation.outbound.dial import Dialer
from federation.outbound.downloads import Downloads
from federation.outbound.tls import PeerTls
from federation.outbound.transport import BadAnswer, Refused, Response, Unreachable
from federation.outbound.web import WebRequest
from federation.outbound.web_client import WebClient
from federation.room.signing import SigningKey
from tests.federation.doubles import Network
from tests.federation.outbound.peers import OK, Basin, Heard, Names, Peer
from tests.fixtures_tls import Authority

HOSTS = ("guild.example", "www.guild.example")


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def page(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@define
class Town:
    """An encrypted and a plain server under the same names, and a client that may go there."""

    authority: Authority
    names: Names = field(factory=lambda: Names(hosts={host: ["127.0.0.1"] for host in HOSTS}))
    secure: Peer = field(factory=Peer)
    plain: Peer = field(factory=Peer)
    https: str = ""
    http: str = ""
    pages: dict[str, bytes] = field(factory=dict)
    clients: list[WebClient] = field(factory=list)

    def open(self) -> None:
        self.https = f"https://guild.example:{self.secure.listen(reactor, self.authority.issue(*HOSTS))}"
        self.http = f"http://guild.example:{self.plain.listen(reactor, None)}"
        self.secure.script = self.plain.script = lambda heard: self.pages.get(heard.line.split(" ")[1], OK)

    def client(self, policy: AddressPolicy | None = None) -> WebClient:
        policy = policy or AddressPolicy.of(allow_loopback=True)
        dialer = Dialer(reactor, PeerTls(self.authority.ca_path), self.names, policy, 5)
        self.clients.append(WebClient(dialer, reactor, "Tests/1"))
        return self.clients[-1]

    @property
    def heard(self) -> list[Heard]:
        return [*self.secure.heard, *self.plain.heard]

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for peer in (self.secure, self.plain):
            await peer.close()
        await deferLater(reactor, 0.01, lambda: None)


@pytest_twisted.async_yield_fixture
async def town(authority: Authority) -> AsyncIterator[Town]:
    town = Town(authority)
    town.open()
    yield town
    await town.close()


@pytest_twisted.ensureDeferred
async def test_pages(town: Town) -> None:
    town.pages["/a?b"] = page(b"hello", "X-A: b")
    client = town.client()
    for base in (town.http, town.https):
        answer = await client.fetch(WebRequest(f"{base}/a?b#c", headers={"Accept": "text/html"}))
        assert (answer.url, answer.status, answer.body) == (f"{base}/a?b", 200, b"hello")
        assert answer.headers["x-a"] == "b"
    assert [heard.headers["host"] for heard in town.heard] == [
        town.https.removeprefix("https://"),
        town.http.removeprefix("http://"),
    ]
    assert {heard.headers["user-agent"] for heard in town.heard} == {"Tests/1"}


@pytest_twisted.ensureDeferred
async def test_connections_are_kept_for_each_origin(town: Town) -> None:
    client = town.client()
    for base in (town.http, town.https) * 2:
        await client.fetch(WebRequest(base))
    assert [heard.connection for heard in town.heard] == [0, 0, 0, 0]
    assert client.idle_connections == 2


@pytest_twisted.ensureDeferred
async def test_posting(town: Town) -> None:
    await town.client().fetch(
        WebRequest(f"{town.https}/push", "POST", {"Content-Type": "application/json"}, body=b'{"a":1}')
    )
    (heard,) = town.heard
    assert (heard.line, heard.body) == ("POST /push HTTP/1.1", b'{"a":1}')


@pytest.mark.parametrize("url", ["ftp://guild.example/", "https://a:b@guild.example/", "nothing"])
@pytest_twisted.ensureDeferred
async def test_urls_that_lead_nowhere(town: Town, url: str) -> None:
    with pytest.raises(Unreachable, match="cannot be fetched") as caught:
        await town.client().fetch(WebRequest(url))
    assert not caught.value.retryable


@pytest_twisted.ensureDeferred
async def test_where_only_https_will_do(town: Town) -> None:
    with pytest.raises(Unreachable, match="only https"):
        await town.client().fetch(WebRequest(town.http, plain=False))
    assert town.heard == []


PRIVATE = [
    "http://127.0.0.1", "https://127.0.0.1", "http://localhost.example", "http://10.1.2.3", "http://[::1]",
    "http://[::ffff:127.0.0.1]", "http://169.254.169.254", "http://0.0.0.0",
]  # fmt: skip


@pytest.mark.parametrize("place", PRIVATE)
@pytest_twisted.ensureDeferred
async def test_no_private_address_is_asked(town: Town, place: str) -> None:
    """Neither by what stands in the URL, nor by what a name is looked up as, nor by where a redirect leads."""
    town.names.hosts["localhost.example"] = ["127.0.0.1", "::1", "192.168.0.1"]
    town.pages["/away"] = redirect(f"{place}:{town.plain.port.getHost().port}/secret")  # type: ignore[union-attr]
    strict = town.client(AddressPolicy.of())
    with pytest.raises(Unreachable, match="private address"):
        await strict.fetch(WebRequest(f"{place}:{town.plain.port.getHost().port}/secret"))  # type: ignore[union-attr]
    only_the_first = town.client(AddressPolicy.of(["127.0.0.9"]))
    town.names.hosts["guild.example"] = ["127.0.0.9"]
    door = Peer(lambda heard: town.pages["/away"])
    port = door.listen(reactor, None, "127.0.0.9")
    with pytest.raises(Unreachable, match="private address"):
        await only_the_first.fetch(WebRequest(f"http://guild.example:{port}/away"))
    assert len(door.heard) == 1
    assert town.heard == []
    await door.close()


@pytest_twisted.ensureDeferred
async def test_numbers_that_are_addresses_in_disguise(town: Town) -> None:
    """What `getaddrinfo` makes of them is judged like the answer of a name server."""
    town.names.hosts |= {"2130706433": ["127.0.0.1"], "0x7f.1": ["127.0.0.1"]}
    for host in ("2130706433", "0x7f.1"):
        with pytest.raises(Unreachable, match="private address"):
            await town.client(AddressPolicy.of()).fetch(WebRequest(f"http://{host}/"))


@pytest_twisted.ensureDeferred
async def test_redirects(town: Town) -> None:
    town.pages["/1"] = redirect(f"{town.https}/2")
    town.pages["/2"] = redirect("/3", 308)
    town.pages["/3"] = page(b"here")
    answer = await town.client().fetch(WebRequest(f"{town.http}/1"))
    assert (answer.url, answer.body) == (f"{town.https}/3", b"here")


@pytest.mark.parametrize("most", [0, 1, 3])
@pytest_twisted.ensureDeferred
async def test_no_more_redirects_than_allowed(town: Town, most: int) -> None:
    town.pages |= {f"/{number}": redirect(f"/{number + 1}") for number in range(20)}
    answer = await town.client().fetch(WebRequest(f"{town.http}/0", max_redirects=most))
    assert answer.status == 302
    assert len(town.heard) == most + 1


@pytest_twisted.ensureDeferred
async def test_no_way_back_from_https(town: Town) -> None:
    town.pages["/"] = redirect(f"{town.http}/x")
    assert (await town.client().fetch(WebRequest(town.https))).status == 302
    assert town.plain.heard == []


@pytest_twisted.ensureDeferred
async def test_credentials_are_for_one_host_only(town: Town) -> None:
    town.pages["/1"] = redirect("/2")
    town.pages["/2"] = redirect(f"{town.https}/3")
    await town.client().fetch(WebRequest(f"{town.http}/1", headers={"Authorization": "Bearer x", "X-A": "b"}))
    assert [heard.headers.get("authorization") for heard in town.plain.heard] == ["Bearer x", "Bearer x"]
    (stranger,) = town.secure.heard
    assert "authorization" not in stranger.headers
    assert stranger.headers["x-a"] == "b"


@pytest.mark.parametrize(
    ("status", "line", "body"),
    [(301, "GET /b", b""), (302, "GET /b", b""), (303, "GET /b", b""), (307, "POST /b", b"x"), (308, "POST /b", b"x")],
)
@pytest_twisted.ensureDeferred
async def test_what_becomes_of_a_body(town: Town, status: int, line: str, body: bytes) -> None:
    town.pages["/a"] = redirect("/b", status)
    await town.client().fetch(WebRequest(f"{town.http}/a", "POST", body=b"x"))
    last = town.heard[-1]
    assert (last.line, last.body) == (f"{line} HTTP/1.1", body)


@pytest_twisted.ensureDeferred
async def test_certificates_are_checked(town: Town) -> None:
    town.names.hosts["other.example"] = ["127.0.0.1"]
    with pytest.raises(Unreachable, match="not valid for other"):
        await town.client().fetch(WebRequest(town.https.replace("guild", "other")))


@pytest_twisted.ensureDeferred
async def test_time_is_limited(town: Town) -> None:
    town.pages["/"] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
    with pytest.raises(Unreachable, match="no answer within"):
        await town.client().fetch(WebRequest(town.http, timeout_s=0.2))


@pytest.mark.parametrize(
    "answer",
    [
        page(b"x" * 1001),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
        page(gzip.compress(b"x" * 1001), "Content-Encoding: gzip"),
    ],
    ids=["length", "no length", "packed"],
)
@pytest.mark.parametrize("to_sink", [False, True])
@pytest_twisted.ensureDeferred
async def test_size_is_limited(town: Town, answer: bytes, to_sink: bool) -> None:
    town.pages["/"] = answer
    basin = Basin() if to_sink else None
    with pytest.raises(BadAnswer, match=r"larger than|more than"):
        await town.client().fetch(WebRequest(town.http, max_bytes=1000, sink=basin))
    assert basin is None or len(basin.body) <= 1000


@pytest.mark.parametrize("to_sink", [False, True])
@pytest.mark.parametrize(
    ("packing", "pack"),
    [("gzip", gzip.compress), ("X-GZIP", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
@pytest_twisted.ensureDeferred
async def test_packed_bodies(town: Town, packing: str, pack: object, to_sink: bool) -> None:
    body = bytes(range(256)) * 3000
    town.pages["/"] = page(pack(body), f"Content-Encoding: {packing}")  # type: ignore[operator]
    basin = Basin() if to_sink else None
    answer = await town.client().fetch(WebRequest(town.http, sink=basin))
    assert (answer.body if basin is None else basin.body) == body
    assert basin is None or max(map(len, basin.pieces)) <= 64 * 1024


@pytest.mark.parametrize("to_sink", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_bomb(town: Town, to_sink: bool) -> None:
    """A thousand times as large as it looks. It is not even unpacked."""
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    town.pages["/"] = page(bomb, "Content-Encoding: gzip")
    basin = Basin() if to_sink else None
    with pytest.raises(BadAnswer, match=r"larger than|more than"):
        await town.client().fetch(WebRequest(town.http, max_bytes=100_000, sink=basin))
    assert basin is None or len(basin.body) <= 100_000


@pytest.mark.parametrize("to_sink", [False, True])
@pytest.mark.parametrize(
    ("body", "packing", "why"),
    [
        (b"not packed", "gzip", "cannot be unpacked"),
        (gzip.compress(b"hello" * 100)[:-12], "gzip", "too early"),
        (b"whatever", "br", "not known here: br"),
    ],
    ids=["nonsense", "cut off", "brotli"],
)
@pytest_twisted.ensureDeferred
async def test_badly_packed_bodies(town: Town, body: bytes, packing: str, why: str, to_sink: bool) -> None:
    town.pages["/"] = page(body, f"Content-Encoding: {packing}")
    with pytest.raises(BadAnswer, match=why):
        await town.client().fetch(WebRequest(town.http, sink=Basin() if to_sink else None))


@pytest_twisted.ensureDeferred
async def test_after_closing(town: Town) -> None:
    client = town.client()
    await client.fetch(WebRequest(town.http))
    await client.close()
    assert client.idle_connections == 0
    with pytest.raises(Unreachable, match="going down"):
        await client.fetch(WebRequest(town.http))


# Downloads from peers, which may lead to the web.

PATH = "/_matrix/federation/v1/media/download/abc"


def downloads(town: Town, answer: Response) -> tuple[Downloads, Network]:
    network = Network({"peer.example": lambda request: answer})
    client = FederationClient("guild.example", SigningKey.generate("1"), network)
    return Downloads(client, town.client()), network


@pytest_twisted.ensureDeferred
async def test_a_download(town: Town) -> None:
    found, network = downloads(town, Response(200, {"content-type": "multipart/mixed"}, b"--x"))
    basin = Basin()
    answer = await found.get("peer.example", PATH, basin, max_bytes=1000)
    (request,) = network.requests
    assert (request.sink, request.max_bytes) == (basin, 1000)
    assert request.headers["Authorization"].startswith("X-Matrix")
    assert (answer.headers["content-type"], answer.body, basin.body) == ("multipart/mixed", b"", b"--x")


@pytest_twisted.ensureDeferred
async def test_a_download_that_is_refused(town: Town) -> None:
    found, _ = downloads(town, Response(404, {"location": town.https}, b'{"errcode": "M_NOT_FOUND", "error": "no"}'))
    with pytest.raises(Refused) as caught:
        await found.get("peer.example", PATH, Basin(), max_bytes=1000)
    assert (caught.value.status, caught.value.errcode) == (404, "M_NOT_FOUND")
    assert town.heard == []


@pytest_twisted.ensureDeferred
async def test_a_download_that_lies_elsewhere(town: Town) -> None:
    """It is asked for without this server's signature, and leads no further."""
    town.pages["/file"] = page(b"body", "Content-Type: image/png")
    town.pages["/further"] = redirect("/file")
    found, _ = downloads(town, Response(307, {"location": f"{town.https}/file"}, b""))
    basin = Basin()
    answer = await found.get("peer.example", PATH, basin, max_bytes=1000)
    assert (answer.headers["content-type"], basin.body) == ("image/png", b"body")
    assert "authorization" not in town.heard[0].headers
    for where, why in ((f"{town.https}/further", "status 302"), (None, "nowhere")):
        found, _ = downloads(town, Response(302, {} if where is None else {"location": where}, b""))
        with pytest.raises(BadAnswer, match=why):
            await found.get("peer.example", PATH, Basin(), max_bytes=1000)
    found, _ = downloads(town, Response(302, {"location": f"{town.http}/file"}, b""))
    with pytest.raises(Unreachable, match="only https"):
        await found.get("peer.example", PATH, Basin(), max_bytes=1000)

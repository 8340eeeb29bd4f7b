"""Files between servers: fetched, kept, and what comes of peers that lie about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import define, evolve, field

from federation.outbound.transport import Request, Response, Sink, Unreachable
from federation.outbound.web import WebRequest, WebResponse
from federation.wire.multipart import after_file, before_file
from homeserver.errors import MatrixError, NotFound
from homeserver.media.downloads import Downloads, NotYetUploaded, Wanted
from homeserver.media.remote import CannotHave, TooLargeElsewhere
from homeserver.media.thumbnails import CannotThumbnail
from homeserver.media.uploads import Uploads
from tests.fixtures_fleet import Fleet, Member
from tests.media.files import opened, picture
from tests.media.hands import download, key_of, thumbnail, upload

NEW = "/_matrix/federation/v1/media/"
OLD = "/_matrix/media/"
URI = "mxc://b.example/abcdefgh"


def in_parts(file: bytes, headers: dict[str, str] | None = None, more: dict[str, str] | None = None) -> Response:
    """An answer with a file, as peers should give it."""
    body = before_file("bo", headers or {"Content-Type": "image/png"}) + file + after_file("bo")
    return Response(200, {"content-type": "multipart/mixed; boundary=bo", **(more or {})}, body)


@define
class Lies:
    """One server's answers about files, and everybody else's as they are."""

    answers: list[Response | None]
    asked: list[Request] = field(factory=list)

    def __call__(self, origin: str, request: Request) -> Request | Response | None:
        if "/media/" not in request.path:
            return request
        self.asked.append(request)
        return self.answers.pop(0)


@pytest.fixture
def one(fleet: Fleet) -> Member:
    (member,) = fleet.open("a")
    return member


# -- as it should be ---------------------------------------------------------------------------------------------------


def test_a_file_of_another_server(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    data = picture("PNG", 200, 100)
    uri = upload(b, "bob", data, name="🐔 of ours.png")
    for _ in range(2):
        got = download(a, uri)
        assert (got.status, got.body, got.type) == (200, data, "image/png")
        assert "filename*=utf-8''%F0%9F%90%94%20of%20ours.png" in got.headers["Content-Disposition"]
    assert any_fleet.asked("/media/") == [("a.example", "b.example")], "it was fetched once"
    assert download(a, uri, range="bytes=5-9").body == data[5:10]
    assert a.house.media.remote is not None
    assert a.house.media.remote.fetched_bytes == len(data)


def test_many_ask_at_once_and_it_is_fetched_once(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    key = key_of(upload(b, "bob", picture()))
    downloads = a.house.part(Downloads)

    async def ask() -> list[Any]:
        from federation.gather import gather

        return await gather([downloads.find(Wanted(*key)) for _ in range(5)])

    assert len({medium.file for medium in fleet.wait(ask())}) == 1
    assert len(fleet.asked("/media/")) == 1


def test_an_empty_file(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    got = download(a, upload(b, "bob", b"", "text/plain"))
    assert (got.body, got.type) == (b"", "text/plain")


def test_thumbnails_are_asked_for_without_the_file(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    uri = upload(b, "bob", picture("PNG", 1000, 800))
    got = thumbnail(a, uri, 96, 96, "crop")
    assert opened(got.body).size == (96, 96)
    assert got.headers["Content-Disposition"].startswith("inline")
    assert thumbnail(a, uri, 96, 96, "crop").body == got.body
    assert [path for *_, path in fleet.requests if "/media/" in path] == [NEW + "thumbnail/" + key_of(uri)[1]]
    assert thumbnail(b, uri, 96, 96, "crop").body == got.body, "it is the other server's"
    assert download(a, uri).body == picture("PNG", 1000, 800), "the file comes when it is asked for itself"
    assert opened(thumbnail(a, uri, 300, 200).body).size[1] == 240
    assert len(fleet.asked("/media/")) == 2, "then thumbnails are made here"


def test_what_is_small_comes_as_it_is(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    uri = upload(b, "bob", picture("PNG", 30, 20))
    assert thumbnail(a, uri, 96, 96).body == picture("PNG", 30, 20)


def test_what_is_not_there(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    for uri in ("mxc://b.example/nothing", "mxc://c.example/nothing", "mxc://a.example/nothing"):
        with pytest.raises(MatrixError) as caught:
            download(a, uri)
        assert caught.value.status == (502 if "c.example" in uri else 404)
    with pytest.raises(NotFound):
        thumbnail(a, "mxc://b.example/nothing", 32, 32)
    made, _ = b.wait(b.house.part(Uploads).create(b.user("bob")))
    with pytest.raises(NotYetUploaded):
        download(a, made)


def test_a_server_that_is_down_is_left_alone_for_a_moment(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    uri = upload(b, "bob", picture())
    fleet.down.add("b.example")
    for _ in range(3):
        with pytest.raises(CannotHave):
            download(a, uri)
    assert len(fleet.asked("/media/")) == 1
    fleet.down.clear()
    assert a.house.federation is not None
    for observer in a.house.federation.gate.observers:
        observer("b.example")
    assert download(a, uri).body == picture()


def test_quarantine_is_for_other_servers_too(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    uri, other = upload(b, "bob", picture()), upload(b, "bob", picture(seed=2))
    b.wait(b.house.media.care.quarantine([key_of(uri)], "@admin:b.example"))
    with pytest.raises(NotFound):
        download(a, uri)
    # Ours of theirs: one that was never fetched here can't be any more, nor its bytes under another name.
    assert a.wait(a.house.media.care.quarantine([key_of(other)], "@admin:a.example")) == 1
    fleet.requests.clear()
    for find in (lambda: download(a, other), lambda: thumbnail(a, other, 32, 32)):
        with pytest.raises(NotFound):
            find()
    assert not fleet.asked("/media/")


def test_bytes_in_quarantine_do_not_come_back(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    mine = upload(a, "alice", picture())
    a.wait(a.house.media.care.quarantine([key_of(mine)], "@admin:a.example"))
    with pytest.raises(NotFound):
        download(a, upload(b, "bob", picture()))
    with pytest.raises(NotFound):
        download(a, upload(a, "anna", picture()))


# -- parts -------------------------------------------------------------------------------------------------------------


@define
class Breaking:
    """A sink that lets so many bytes through, and then the line breaks."""

    sink: Sink
    left: int

    def begin(self, headers: Mapping[str, str]) -> None:
        self.sink.begin(headers)

    async def write(self, data: bytes) -> None:
        await self.sink.write(data[: self.left])
        self.left -= len(data)
        if self.left <= 0:
            raise Unreachable("", "the line broke")


def test_where_it_breaks_off_only_the_rest_is_asked_for(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    data = picture("PNG", 100, 100)
    uri = upload(b, "bob", data)
    ranges: list[str | None] = []

    def cut(origin: str, request: Request) -> Request:
        if request.sink is None:
            return request
        ranges.append(request.headers.get("Range"))
        return evolve(request, sink=Breaking(request.sink, len(data) * 2 // 3))

    fleet.meddler = cut
    assert download(a, uri).body == data
    first, second = ranges
    assert first is None
    assert second is not None and re.fullmatch(r"bytes=[1-9]\d*-", second)
    with pytest.raises(CannotHave):  # but not again and again
        download(a, upload(b, "bob", picture("PNG", 300, 300)))


def test_parts_of_what_peers_get(fleet: Fleet) -> None:
    """Any part of the whole answer, with what stands around the file."""
    a, b = fleet.open("a", "b")
    data = picture("PNG", 20, 20)
    path = NEW + "download/" + key_of(upload(b, "bob", data))[1]
    whole = asked(a, b, path)
    assert data in whole.body
    for start, end in ((0, 0), (3, 200), (100, 400), (len(whole.body) - 5, 10**6), (150, len(whole.body) - 3)):
        part = asked(a, b, path, Range=f"bytes={start}-{end}")
        assert part.status == 206
        assert part.body == whole.body[start : end + 1]
    assert asked(a, b, path, Range="bytes=0-3", **{"If-Range": '"another"'}).status == 200
    assert asked(a, b, path, Range=f"bytes={len(whole.body)}-").status == 416


def asked(a: Member, b: Member, path: str, **headers: str) -> Response:
    """What a server gets that asks another so."""
    assert a.house.federation is not None
    client = a.house.federation.client
    authorization = client.authorization("GET", b.name, path, None)
    return a.wait(client.transport.send(Request(b.name, "GET", path, {"Authorization": authorization, **headers})))


# -- peers that lie ----------------------------------------------------------------------------------------------------


def endless(size: int) -> Response:
    return in_parts(b"x" * size)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(200, {"content-type": "text/html"}, b"<html>log in first</html>"), CannotHave),
        (Response(200, {}, b""), CannotHave),
        (Response(200, {"content-type": "multipart/mixed"}, b"--x\r\n"), CannotHave),
        (Response(200, {"content-type": 'multipart/mixed; boundary=""'}, b"----\r\n"), CannotHave),
        (Response(200, {"content-type": "multipart/mixed; boundary=bo"}, b""), CannotHave),
        (Response(200, {"content-type": "multipart/mixed; boundary=bo"}, b"--bo\r\n\r\n{}\r\n--bo--\r\n"), CannotHave),
        (Response(200, {"content-type": "multipart/mixed; boundary=bo"}, b"x" * 100_000), CannotHave),
        (Response(200, {"content-type": "multipart/mixed; boundary=bo"}, b"--bo\r\nA: " + b"x" * 20_000), CannotHave),
        (Response(200, {"content-type": "multipart/mixed; boundary=bo"}, in_parts(b"x").body[:-9]), CannotHave),
        (
            Response(
                200,
                {"content-type": "multipart/mixed; boundary=bo"},
                in_parts(b"x").body[:-4] + b"\r\nContent-Type: image/png\r\n\r\nmore\r\n--bo--\r\n",
            ),
            CannotHave,
        ),
        (in_parts(b"file", {"Location": "https://elsewhere.example/x"}), CannotHave),
        (endless(3_000_000), TooLargeElsewhere),
        (in_parts(b"x", more={"content-length": str(10**12)}), TooLargeElsewhere),
        (Response(302, {"location": "https://127.0.0.1/secrets"}, b""), CannotHave),
        (Response(302, {}, b""), CannotHave),
        (Response(502, {}, b'{"errcode": "M_TOO_LARGE", "error": "no"}'), TooLargeElsewhere),
        (Response(504, {}, b'{"errcode": "M_NOT_YET_UPLOADED", "error": "no"}'), NotYetUploaded),
        (Response(404, {}, b'{"errcode": "M_NOT_FOUND", "error": "no"}'), NotFound),
        (Response(403, {}, b'{"errcode": "M_FORBIDDEN", "error": "no"}'), NotFound),
        (Response(500, {}, b"<html>oops</html>"), CannotHave),
        (None, CannotHave),
    ],
)
def test_peers_that_lie(fleet: Fleet, answer: Response | None, error: type[MatrixError]) -> None:
    fleet.media_settings = {"remote_max_bytes": 1_000_000}
    (one,) = fleet.open("a")
    fleet.meddler = Lies([answer])
    with pytest.raises(error):
        download(one, URI)
    assert nothing_left(one), "what was refused leaves nothing behind"


def nothing_left(member: Member) -> bool:
    member.wait(member.house.media.tidy())
    folder = member.house.media.library.folder
    return not [path for path in folder.rglob("*") if path.is_file()]


def test_a_page_that_says_it_is_a_picture(one: Member) -> None:
    one.fleet.meddler = Lies([in_parts(b"<html><script>alert(1)</script></html>", {"Content-Type": "image/png"})])
    got = download(one, URI)
    assert got.type == "application/octet-stream"
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in got.headers["Content-Security-Policy"]


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "nonsense", "text/html\x00", ""])
def test_types_that_browsers_would_run(one: Member, kind: str) -> None:
    one.fleet.meddler = Lies([in_parts(b"<svg onload='x()'/>", {"Content-Type": kind})])
    assert download(one, URI).headers["Content-Disposition"].startswith("attachment")


def test_a_thumbnail_that_is_none(one: Member) -> None:
    """Then the file itself is fetched, and what that is decides."""
    lies = Lies([in_parts(b"<html>"), in_parts(b"<html>")])
    one.fleet.meddler = lies
    with pytest.raises(CannotThumbnail):
        thumbnail(one, URI, 32, 32)
    assert [request.path.partition("?")[0].split("/")[-2] for request in lies.asked] == ["thumbnail", "download"]


def test_a_thumbnail_that_is_too_large(one: Member) -> None:
    one.fleet.meddler = Lies([in_parts(b"x" * 11_000_000), in_parts(picture("PNG", 100, 100))])
    assert opened(thumbnail(one, URI, 32, 32).body).size == (32, 32)


# -- servers of old, and files that are elsewhere ----------------------------------------------------------------------


UNKNOWN = Response(404, {}, b'{"errcode": "M_UNRECOGNIZED", "error": "?"}')


@pytest.mark.parametrize(
    "refusal",
    [UNKNOWN, Response(404, {}, b"<html>nginx</html>"), Response(405, {}, b""), Response(400, {}, b"Invalid origin")],
)
def test_servers_of_old(one: Member, refusal: Response) -> None:
    old = Response(200, {"content-type": "image/png", "content-disposition": "inline; filename=x.png"}, picture())
    lies = Lies([refusal, old])
    one.fleet.meddler = lies
    got = download(one, URI)
    assert (got.body, got.headers["Content-Disposition"]) == (picture(), 'inline; filename="x.png"')
    path, _, query = lies.asked[1].path.partition("?")
    assert path == OLD + "v3/download/b.example/abcdefgh"
    assert "allow_remote=false" in query


def test_servers_of_old_that_freeze(one: Member) -> None:
    one.fleet.meddler = Lies([UNKNOWN, Response(404, {}, b'{"errcode": "M_NOT_FOUND", "error": "frozen"}')])
    with pytest.raises(NotFound):
        download(one, URI)


@define
class Elsewhere:
    """The web, as the tests have it."""

    answers: dict[str, WebResponse] = field(factory=dict)
    asked: list[WebRequest] = field(factory=list)

    async def fetch(self, request: WebRequest) -> WebResponse:
        self.asked.append(request)
        answer = self.answers.get(request.url)
        if answer is None:
            raise Unreachable(request.url, "127.0.0.1 is a private address, and those are not allowed")
        if request.sink is not None and answer.status == 200:
            request.sink.begin(answer.headers)
            await request.sink.write(answer.body)
        return answer

    async def close(self) -> None: ...


@pytest.fixture
def web(fleet: Fleet) -> Elsewhere:
    fleet.web = Elsewhere()
    return fleet.web


CDN = "https://cdn.example/x"


def test_a_file_that_is_elsewhere(fleet: Fleet, web: Elsewhere) -> None:
    (one,) = fleet.open("a")
    headers = {"content-type": "image/gif", "content-disposition": 'attachment; filename="there.gif"'}
    web.answers[CDN] = WebResponse(CDN, 200, headers, picture("GIF"))
    fleet.meddler = Lies([in_parts(b"", {"Location": CDN})])
    got = download(one, URI)
    assert (got.body, got.type) == (picture("GIF"), "image/gif")
    assert "there.gif" in got.headers["Content-Disposition"]
    (request,) = web.asked
    assert "Authorization" not in request.headers, "it is nobody's business there who asks"
    assert (request.plain, request.max_redirects) == (False, 0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, CannotHave),
        (WebResponse(CDN, 404, {}, b""), CannotHave),
        (WebResponse(CDN, 302, {"location": "https://127.0.0.1/"}, b""), CannotHave),
        (WebResponse(CDN, 200, {"content-type": "image/png"}, b"x" * 1_000_001), TooLargeElsewhere),
    ],
)
def test_elsewhere_is_a_bad_place(
    fleet: Fleet, web: Elsewhere, answer: WebResponse | None, error: type[MatrixError]
) -> None:
    fleet.media_settings = {"remote_max_bytes": 1_000_000}
    (one,) = fleet.open("a")
    if answer is not None:
        web.answers[CDN] = answer
    fleet.meddler = Lies([in_parts(b"", {"Location": CDN})])
    with pytest.raises(error):
        download(one, URI)
    assert nothing_left(one)


# -- what is kept, and for how long ------------------------------------------------------------------------------------


def keep(fleet: Fleet, **settings: Any) -> tuple[Member, Callable[[int], None]]:
    """A server with these settings, and a way to let time pass there."""
    fleet.media_settings = settings
    (member,) = fleet.open("a")

    def later(milliseconds: int) -> None:
        fleet.skip_ms(milliseconds)
        member.wait(member.house.media.tidy())

    return member, later


HOUR = 60 * 60 * 1000


def test_copies_that_nobody_asks_for_go(fleet: Fleet) -> None:
    a, later = keep(fleet, remote_keep_ms=10 * HOUR)
    (b,) = fleet.open("b")
    used, unused = upload(b, "bob", picture(seed=1)), upload(b, "bob", picture(seed=2))
    for uri in (used, unused):
        download(a, uri)
    later(8 * HOUR)
    download(a, used)
    later(3 * HOUR)
    download(a, used)
    assert len(fleet.asked("/media/")) == 2
    download(a, unused)
    assert len(fleet.asked("/media/")) == 3, "it was forgotten, and can be had again"


def test_the_oldest_copies_go_where_there_is_too_much(fleet: Fleet) -> None:
    a, later = keep(fleet, remote_cache_bytes=250_000)
    (b,) = fleet.open("b")
    uris = [upload(b, "bob", picture("PNG", 200, 200, seed=seed)) for seed in range(30)]
    for uri in uris:
        download(a, uri)
        fleet.skip_ms(HOUR)
    later(HOUR)
    fleet.requests.clear()
    download(a, uris[-1])
    assert not fleet.asked("/media/")
    download(a, uris[0])
    assert fleet.asked("/media/")
    size = sum(path.stat().st_size for path in (a.house.media.library.folder / "remote").rglob("*") if path.is_file())
    assert size <= 250_000 + 130_000

"""The content repository as its clients meet it, on both databases."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time

import pytest

from tests.fixtures_server import Answer, Person, Query, ServerProcess
from tests.media.files import picture

UPLOAD = "/_matrix/media/v3/upload"
CREATE = "/_matrix/media/v1/create"
NEW = "/_matrix/client/v1/media"
OLD = "/_matrix/media/v3"


def upload(who: Person, data: bytes, kind: str | None = "image/png", **query: str) -> str:
    """Upload a file; server and id in its URI, with a slash between."""
    headers = {} if kind is None else {"Content-Type": kind}
    answer = who.server.request("POST", UPLOAD, data, query, token=who.token, headers=headers)
    assert answer.status == 200, answer.body
    return str(answer.json["content_uri"]).removeprefix("mxc://")


def get(who: Person, path: str, query: Query | None = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return who.server.request("GET", path, None, query, token=who.token, headers=named)


def errcode(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["errcode"]


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 262_144, 262_145, 3_000_000])
def test_there_and_back(alice: Person, bob: Person, size: int) -> None:
    data = secrets.token_bytes(size)
    uri = upload(alice, data, "application/x-thing", filename="a thing.bin")
    for who in (alice, bob):
        answer = get(who, f"{NEW}/download/{uri}")
        assert answer.body == data
        assert answer.headers["Content-Length"] == str(size)
        assert answer.headers["Content-Type"] == "application/x-thing"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a thing.bin"'


def test_what_goes_with_every_file(alice: Person) -> None:
    answer = get(alice, f"{NEW}/download/{upload(alice, picture())}")
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'; script-src 'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer.headers["Content-Disposition"] == "inline"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<html><script>alert(1)</script></html>", "text/html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image/svg+xml"),
        (b"alert(1)", "application/javascript"),
        (b"<?xml version='1.0'?><x/>", "application/xml"),
        (b"%PDF-1.7", "application/pdf"),
        (b"<html><script>alert(1)</script></html>", "image/png"),
        (b"GIF89a/*<script>*/=1;alert(1)//</script>", "application/xhtml+xml"),
    ],
)
def test_what_could_run_is_an_attachment(alice: Person, data: bytes, kind: str) -> None:
    uri = upload(alice, data, kind, filename="x.html")
    for path in (f"{NEW}/download/{uri}", f"{NEW}/download/{uri}/y.html", f"{OLD}/download/{uri}"):
        answer = get(alice, path)
        assert answer.body == data
        assert answer.headers["Content-Disposition"].startswith("attachment"), path
        assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_a_polyglot_is_what_it_says_it_is(alice: Person) -> None:
    """A picture that is a page too, under both names."""
    data = picture("GIF") + b"<html><script>alert(1)</script></html>"
    shown = get(alice, f"{NEW}/download/{upload(alice, data, 'image/gif')}")
    assert (shown.headers["Content-Type"], shown.headers["Content-Disposition"]) == ("image/gif", "inline")
    kept = get(alice, f"{NEW}/download/{upload(alice, data, 'text/html')}")
    assert (kept.headers["Content-Type"], kept.headers["Content-Disposition"]) == ("text/html", "attachment")


def test_without_a_type_or_a_name(alice: Person) -> None:
    answer = get(alice, f"{NEW}/download/{upload(alice, b'what?', None)}")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment"


@pytest.mark.parametrize(
    "name", ["ascii", "name with spaces", "name;with;semicolons", 'quo"te', "🐔.png", "a\r\nb", "\0"]
)
def test_names(alice: Person, name: str) -> None:
    uri = upload(alice, picture(), filename=name)
    answer = get(alice, f"{NEW}/download/{uri}")
    assert answer.status == 200
    assert "\n" not in answer.headers["Content-Disposition"]
    other = get(alice, f"{NEW}/download/{uri}/%E2%98%95%2F.png")
    assert other.headers["Content-Disposition"] == "inline; filename=\"_/.png\"; filename*=utf-8''%E2%98%95%2F.png"


# -- parts, and what one has already -----------------------------------------------------------------------------------


def test_parts(alice: Person) -> None:
    data = secrets.token_bytes(1_000_000)
    path = f"{NEW}/download/{upload(alice, data)}"
    whole = get(alice, path)
    etag = whole.headers["ETag"]
    assert whole.headers["Accept-Ranges"] == "bytes"
    for wanted, start, end in (("0-9", 0, 10), ("500000-", 500_000, 1_000_000), ("-7", 999_993, 1_000_000)):
        part = get(alice, path, Range=f"bytes={wanted}")
        assert (part.status, part.body) == (206, data[start:end])
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/1000000"
        assert part.headers["ETag"] == etag
    assert get(alice, path, Range="bytes=5-6", If_Range=etag).status == 206
    assert get(alice, path, Range="bytes=5-6", If_Range='"old"').body == data
    beyond = get(alice, path, Range="bytes=1000000-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, "bytes */1000000")
    known = get(alice, path, If_None_Match=etag)
    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", etag)


def test_head(alice: Person) -> None:
    data = picture()
    answer = alice.server.request("HEAD", f"{NEW}/download/{upload(alice, data)}", token=alice.token)
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, str(len(data)), b"")


# -- made first, uploaded later ----------------------------------------------------------------------------------------


def create(who: Person) -> str:
    return str(who.call("POST", CREATE, {})["content_uri"]).removeprefix("mxc://")


def fill(who: Person, place: str, data: bytes, kind: str = "image/png") -> Answer:
    headers = {"Content-Type": kind}
    return who.server.request("PUT", f"{UPLOAD}/{place}", data, {"filename": "x.png"}, token=who.token, headers=headers)


def test_made_first_and_uploaded_later(alice: Person, bob: Person) -> None:
    made = alice.call("POST", CREATE, {})
    assert 23.9 < (made["unused_expires_at"] / 1000 - time.time()) / 3600 < 24.1
    place = made["content_uri"].removeprefix("mxc://")
    for path in (f"{NEW}/download/{place}", f"{OLD}/download/{place}", f"{NEW}/thumbnail/{place}"):
        query = {"timeout_ms": "0", "width": "32", "height": "32"}
        assert errcode(get(bob, path, query if "thumb" in path else {"timeout_ms": "0"})) == (
            504,
            "M_NOT_YET_UPLOADED",
        )
    assert errcode(fill(bob, place, b"mine now")) == (403, "M_FORBIDDEN")
    assert fill(alice, place, picture()).json == {}
    assert get(bob, f"{NEW}/download/{place}").body == picture()
    assert errcode(fill(alice, place, b"again")) == (409, "M_CANNOT_OVERWRITE_MEDIA")
    assert errcode(fill(bob, place, b"again")) == (409, "M_CANNOT_OVERWRITE_MEDIA")
    assert get(bob, f"{NEW}/download/{place}").body == picture()


def test_addresses_that_nobody_made(alice: Person) -> None:
    for place in ("localhost/never", "elsewhere.example/never"):
        assert errcode(fill(alice, place, b"x")) == (404, "M_NOT_FOUND")
    for place in ("localhost/a.b", "localhost/%2e%2e", "localhost/" + "a" * 300):
        assert errcode(fill(alice, place, b"x")) == (400, "M_INVALID_PARAM")


def test_so_many_addresses_and_no_more(repository: ServerProcess) -> None:
    carol = repository.register(f"carol{secrets.token_hex(3)}")
    places = [create(carol) for _ in range(3)]
    refused = carol.request("POST", CREATE, {})
    assert errcode(refused) == (429, "M_LIMIT_EXCEEDED")
    assert refused.json["retry_after_ms"] > 80_000_000
    assert fill(carol, places[0], b"x").status == 200
    create(carol)


def test_whoever_waits_gets_it(alice: Person, bob: Person) -> None:
    place = create(alice)
    found: list[Answer] = []
    waiting = [threading.Thread(target=lambda: found.append(get(bob, f"{NEW}/download/{place}"))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert fill(alice, place, picture()).status == 200
    for thread in waiting:
        thread.join(30)
    assert [answer.body for answer in found] == [picture()] * 3


# -- limits ------------------------------------------------------------------------------------------------------------


def test_too_large_is_told_before_it_is_sent(alice: Person) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", alice.server.port, timeout=30)
    connection.putrequest("POST", UPLOAD)
    connection.putheader("Authorization", f"Bearer {alice.token}")
    connection.putheader("Content-Length", str(60 * 1024 * 1024 + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["errcode"]) == (413, "M_TOO_LARGE")
    connection.close()


def test_too_large_in_chunks(alice: Person) -> None:
    """Of unknown length, until it is too much."""
    connection = http.client.HTTPConnection("127.0.0.1", alice.server.port, timeout=30)
    connection.putrequest("POST", UPLOAD)
    for name, value in {
        "Authorization": f"Bearer {alice.token}",
        "Transfer-Encoding": "chunked",
        "Content-Type": "video/mp4",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"%x\r\n%b\r\n" % (1001, b"x" * 1001))
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["errcode"]) == (413, "M_TOO_LARGE")
    connection.close()


def test_types_have_limits_of_their_own(alice: Person) -> None:
    upload(alice, b"x" * 1000, "video/mp4")
    mp4 = b"\0\0\0\x20ftypisom\0\0\0\0isomiso2avc1mp41"
    exe = b"MZ" + b"\0" * 1000
    for data, kind, refusal in (
        (b"x" * 1001, "video/mp4", (413, "M_TOO_LARGE")),
        (mp4 + b"\0" * 1000, "text/plain", (413, "M_TOO_LARGE")),  # by what it is
        (b"x", "application/x-msdownload", (403, "M_FORBIDDEN")),
        (exe, "image/png", (403, "M_FORBIDDEN")),
    ):
        headers = {"Content-Type": kind}
        answer = alice.server.request("POST", UPLOAD, data, token=alice.token, headers=headers)
        assert errcode(answer) == refusal


def test_who_may_do_what(repository: ServerProcess, alice: Person) -> None:
    guest = repository.call("POST", "/_matrix/client/v3/register", {}, {"kind": "guest"})["access_token"]
    uri = upload(alice, picture())
    small = {"width": "32", "height": "32"}
    assert errcode(repository.request("POST", UPLOAD, b"x")) == (401, "M_MISSING_TOKEN")
    assert errcode(repository.request("POST", UPLOAD, b"x", token=guest)) == (403, "M_GUEST_ACCESS_FORBIDDEN")
    assert errcode(repository.request("POST", CREATE, {}, token=guest)) == (403, "M_GUEST_ACCESS_FORBIDDEN")
    for path in (f"download/{uri}", f"download/{uri}/x", f"thumbnail/{uri}", "config", "preview_url"):
        query = small if "thumb" in path else {"url": "http://x.example/"} if "url" in path else None
        assert errcode(repository.request("GET", f"{NEW}/{path}", query=query)) == (401, "M_MISSING_TOKEN")
    assert repository.request("GET", f"{NEW}/download/{uri}", token=guest).body == picture()
    assert repository.request("GET", f"{NEW}/thumbnail/{uri}", query=small, token=guest).status == 200
    refused = repository.request("GET", f"{NEW}/preview_url", query={"url": "http://x.example/"}, token=guest)
    assert errcode(refused) == (403, "M_GUEST_ACCESS_FORBIDDEN")


def test_what_is_frozen(repository: ServerProcess, alice: Person) -> None:
    """Without a token the deprecated ways give nothing that came while `freeze` was on; with one they give all."""
    uri = upload(alice, picture())
    small = {"width": "32", "height": "32"}
    for path in (f"download/{uri}", f"download/{uri}/x.png", f"thumbnail/{uri}"):
        query = small if "thumb" in path else None
        for version in ("v3", "r0", "v1"):
            target = f"/_matrix/media/{version}/{path}"
            assert errcode(repository.request("GET", target, query=query)) == (404, "M_NOT_FOUND")
            assert repository.request("GET", target, query=query, token=alice.token).status == 200
            assert errcode(repository.request("GET", target, query=query, token="nobody")) == (401, "M_UNKNOWN_TOKEN")


def test_files_of_nowhere(repository: ServerProcess, alice: Person) -> None:
    for uri, expected in (
        ("localhost/nothing", (404, "M_NOT_FOUND")),
        ("elsewhere.example/nothing", (404, "M_NOT_FOUND")),
        ("localhost/..%2F..%2Fsigning.key", (400, "M_INVALID_PARAM")),
        ("localhost/%00", (400, "M_INVALID_PARAM")),
        ("..%2F..%2Fetc/passwd", (400, "M_INVALID_PARAM")),
    ):
        for path in (f"{NEW}/download/{uri}", f"{OLD}/download/{uri}", f"{NEW}/download/{uri}/x"):
            assert errcode(get(alice, path)) == expected


def test_whoever_hangs_up_leaves_nothing_behind(repository: ServerProcess, alice: Person) -> None:
    """In the middle of an upload: no file, no row, and the server goes on."""
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", repository.port, timeout=30)
        connection.putrequest("POST", UPLOAD)
        connection.putheader("Authorization", f"Bearer {alice.token}")
        connection.putheader("Content-Length", "5000000")
        connection.endheaders()
        connection.send(b"x" * 600_000)
        connection.close()
    until = time.monotonic() + 30
    incoming = repository.directory / "media/incoming"
    while list(incoming.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    assert not list(incoming.iterdir())
    upload(alice, picture())

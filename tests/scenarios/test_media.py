"""Files over two servers, each in every role: uploaded here, seen there."""

from __future__ import annotations

import random
import threading

from homeserver.harness.client import Answer, until
from homeserver.harness.faults import Fault, Kind
from homeserver.harness.person import Person
from tests.fixtures_town import Cast, scenario
from tests.media.files import opened, picture

NEW = "/_matrix/client/v1/media"


def upload(person: Person, data: bytes, kind: str, name: str | None = None) -> str:
    """Upload a file; its URI without the scheme."""
    query = {} if name is None else {"filename": name}
    answer = person.server.request(
        "POST", "/_matrix/media/v3/upload", data, query, token=person.token, headers={"Content-Type": kind}
    )
    assert answer.status == 200, answer.body
    return str(answer.json["content_uri"]).removeprefix("mxc://")


def download(person: Person, uri: str) -> Answer:
    return person.request("GET", f"{NEW}/download/{uri}")


@scenario("host", "guest")
def test_files_are_seen_elsewhere(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    large = random.Random(1).randbytes(3_000_000)
    for data, kind, name in (
        (picture("PNG", 300, 200), "image/png", "🐔 & co.png"),
        (large, "application/octet-stream", "large; very.bin"),
        (b"plain", "text/plain", None),
        (b"<html><script>alert(1)</script></html>", "text/html", "x.html"),
    ):
        uri = upload(alice, data, kind, name)
        here, there = download(alice, uri), download(bob, uri)
        assert here.body == there.body == data
        assert there.headers["Content-Type"].partition(";")[0] == kind
        for answer in (here, there):
            disposition = answer.headers["Content-Disposition"]
            assert disposition.startswith("inline" if kind in ("image/png", "text/plain") else "attachment")
        without = guest.request("GET", f"/_matrix/media/v3/download/{uri}")
        assert (without.status, without.json["errcode"]) == (404, "M_NOT_FOUND"), "not without a token"
        if name == "🐔 & co.png":
            assert "filename*=utf-8''%F0%9F%90%94" in there.headers["Content-Disposition"]


@scenario("host", "guest")
def test_thumbnails_are_seen_elsewhere(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    uri = upload(alice, picture("PNG", 500, 400), "image/png")
    query: dict[str, str | int] = {"width": 96, "height": 96, "method": "crop"}
    small = bob.request("GET", f"{NEW}/thumbnail/{uri}", query=query)
    assert small.status == 200, small.body
    assert opened(small.body).size == (96, 96)
    assert download(bob, uri).body == picture("PNG", 500, 400)
    if guest.make == "ours":  # Synapse gives only the whole
        some = guest.request("GET", f"{NEW}/download/{uri}", token=bob.token, headers={"Range": "bytes=100-199"})
        assert (some.status, some.body) == (206, picture("PNG", 500, 400)[100:200])


@scenario("host", "guest")
def test_what_is_nowhere(cast: Cast) -> None:
    host, guest = cast
    bob = cast.person("bob", guest)
    answer = download(bob, f"{host.name}/nothing")
    assert (answer.status, answer.json["errcode"]) == (404, "M_NOT_FOUND")


@scenario("host", "guest")
def test_a_file_that_is_waited_for(cast: Cast) -> None:
    """Its address is known elsewhere before it is uploaded."""
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    uri = str(alice.call("POST", "/_matrix/media/v1/create", {})["content_uri"]).removeprefix("mxc://")
    if guest.make == "ours":  # Synapse leaves a server alone for a while that says so
        not_yet = bob.request("GET", f"{NEW}/download/{uri}", query={"timeout_ms": 0})
        assert (not_yet.status, not_yet.json["errcode"]) == (504, "M_NOT_YET_UPLOADED")
    found: list[Answer] = []
    waiting = threading.Thread(target=lambda: found.append(download(bob, uri)))
    waiting.start()
    filled = host.request("PUT", f"/_matrix/media/v3/upload/{uri}", picture(), token=alice.token)
    assert filled.status == 200, filled.body
    waiting.join(60)
    assert found[0].body == picture()


@scenario("host", "guest")
def test_a_line_that_breaks_in_the_middle(cast: Cast) -> None:
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    uri = upload(alice, random.Random(2).randbytes(500_000), "application/octet-stream")
    cut = Fault(Kind.CUT, path=f"*/media/download/*{uri.rpartition('/')[2]}*", times=1)
    with cast.lines.fault(cut):
        download(bob, uri)
    until(lambda: len(download(bob, uri).body), 500_000)

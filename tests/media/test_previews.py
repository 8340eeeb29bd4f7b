"""Previews of web pages: what is read of them, and what a server does to get them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.outbound.web import parse_url
from homeserver.media.previews import oembed
from homeserver.media.workshop.jobs import Page, ReadPage
from homeserver.media.workshop.pages import MOST_TEXT, MOST_VALUE, decode, read_page
from tests.fixtures_server import Answer, Person, ServerProcess
from tests.media.files import moving, picture, png_bomb
from tests.media.site import Site

PREVIEW = "/_matrix/client/v1/media/preview_url"


def read(directory: Path, page: str | bytes, charset: str | None = None) -> Page:
    path = directory / "page"
    path.write_bytes(page.encode() if isinstance(page, str) else page)
    return read_page(ReadPage(str(path), charset))


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("", {}),
        ("just text", {"og:description": "just text"}),
        ("<title>A title</title>", {"og:title": "A title"}),
        ("<title> A \n title &amp; more</title><p>", {"og:title": "A title & more"}),
        ("<h1>Only <b>this</b></h1>", {"og:title": "Only this", "og:description": "Only this"}),
        (
            '<html><head><title>x</title><meta property="og:title" content="The Rock"><meta name="og:type" '
            "content=video.movie><META PROPERTY='og:image' CONTENT='a.png'></head>",
            {"og:title": "The Rock", "og:type": "video.movie", "og:image": "a.png"},
        ),
        (
            '<meta name="twitter:title" content="T"><meta name="twitter:image" content="i"><meta name=description '
            'content="D">',
            {"og:title": "T", "og:image": "i", "og:description": "D"},
        ),
        ('<meta property="og:title" content=""><title>x</title>', {"og:title": "x"}),
        ('<meta property="og:title" content="1"><meta property="og:title" content="2">', {"og:title": "1"}),
        ('<meta property="og:evil:deep:name" content="1"><meta property="fb:x" content="2">', {}),
        ('<link rel="image_src" href="/p.png">', {"og:image": "/p.png"}),
        (
            "<body><script>no</script><style>no</style><nav>no</nav><p>yes</p><p>and yes</p><svg>no</svg>",
            {"og:description": "yes and yes"},
        ),
        ("<head><body><p>the head never ends", {"og:description": "the head never ends"}),
        ("<script>a < b <p>never ends", {}),
        ("<p>a</p></nav></nav><p>b</p>", {"og:description": "a b"}),
    ],
)
def test_what_is_read_of_a_page(tmp_path: Path, page: str, found: dict[str, str]) -> None:
    assert read(tmp_path, page).properties == found


def test_no_more_is_read_than_fits(tmp_path: Path) -> None:
    found = read(tmp_path, f"<title>{'a' * 5000}</title><p>{'word ' * 1000}").properties
    assert len(found["og:title"]) == MOST_VALUE
    assert len(found["og:description"]) <= MOST_TEXT + 1 and found["og:description"].endswith("word…")
    many = "".join(f'<meta property="og:a{number}" content="x">' for number in range(500))
    assert len(read(tmp_path, many).properties) == 50


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("naïve".encode(), None, "naïve"),
        ("naïve".encode("latin-1"), "iso-8859-1", "naïve"),
        ("naïve".encode("utf-16"), None, "naïve"),
        (b'<meta charset="windows-1251">' + "мир".encode("cp1251"), None, '<meta charset="windows-1251">мир'),
        (b'<meta http-equiv=x content="text/html; charset=shift_jis">' + "世界".encode("shift_jis"), None,
         '<meta http-equiv=x content="text/html; charset=shift_jis">世界'),
        ("naïve".encode(), "klingon", "naïve"),
        ("naïve".encode(), "rot13", "naïve"),
        (b"na\xefve", None, "na\ufffdve"),
        (b"\xef\xbb\xbfx", "latin-1", "\ufeffx"),
    ],
)  # fmt: skip
def test_characters(data: bytes, charset: str | None, text: str) -> None:
    assert decode(data, charset) == text


@given(st.text(alphabet="<>/\"'=!-&;[]ab \n\0" + "é", max_size=200), st.binary(max_size=50))
def test_any_page_at_all(tmp_path_factory: pytest.TempPathFactory, text: str, noise: bytes) -> None:
    page = read(tmp_path_factory.getbasetemp(), f"<meta{text}<title>{text}".encode() + noise)
    assert all(value and len(value) <= MOST_VALUE for value in page.properties.values())


# -- oEmbed ------------------------------------------------------------------------------------------------------------


def test_where_to_ask() -> None:
    told = {"og:title": "x", "og:description": "y", "og:image": "z"}
    url = parse_url("https://a.example/p?x=1")

    def where(page: Page, text: str = url.text) -> str | None:
        found = oembed.address(parse_url(text), text, page)
        return None if found is None else found.text

    assert where(Page({}, None)) is None
    assert where(Page({}, "/oembed?u=1")) == "https://a.example/oembed?u=1"
    assert where(Page(told, "/oembed")) is None, "the page says it all"
    assert where(Page({}, "file:///etc/passwd")) is None
    assert where(Page({}, "javascript:alert(1)")) is None
    at_x = where(Page(told, None), "https://www.x.com/a/status/1?s=2")
    assert at_x is not None
    assert at_x.startswith("https://publish.x.com/oembed?") and at_x.endswith("2Fstatus%2F1%3Fs%3D2")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"title": 5}', b'{"title": [[[' + b"[" * 10_000])
def test_what_is_no_oembed(body: bytes) -> None:
    assert oembed.properties(oembed.read(body)) == {}


# -- a server that fetches ---------------------------------------------------------------------------------------------


def preview(who: Person, url: str, language: str | None = None) -> Any:
    """A preview that must succeed."""
    answer = ask(who, url, language)
    assert answer.status == 200, answer.body
    return answer.json


def ask(who: Person, url: str, language: str | None = None) -> Answer:
    headers = {} if language is None else {"Accept-Language": language}
    return who.server.request("GET", PREVIEW, None, {"url": url}, token=who.token, headers=headers)


PAGE = """<html prefix="og: http://ogp.me/ns#"><head><title>The Rock (1996)</title>
<meta property="og:title" content="The Rock"><meta property="og:url" content="http://www.example.org/">
<meta property="og:image" content="pictures/a.png?x=1"><meta property="og:image:width" content="9999">
<meta property="og:video:url" content="https://elsewhere.example/v"></head><body></body></html>"""


def test_a_page_with_a_picture(alice: Person, site: Site) -> None:
    site.put("/films/pictures/a.png", picture("PNG", 64, 48), "image/png")
    url = site.put("/films/rock", PAGE)
    found = preview(alice, url, "de, en;q=0.5")
    uri = found.pop("og:image")
    assert found == {
        "og:title": "The Rock",
        "og:url": "http://www.example.org/",
        "og:image:type": "image/png",
        "og:image:width": 64,
        "og:image:height": 48,
        "matrix:image:size": len(picture("PNG", 64, 48)),
    }
    path = f"/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}"
    assert alice.request("GET", path).body == picture("PNG", 64, 48)
    asked = dict(site.asked)
    assert asked["/films/rock"]["accept-language"] == "de, en;q=0.5"
    assert asked["/films/rock"]["user-agent"].startswith("Guildhall/")
    assert not {"cookie", "authorization", "referer"} & asked["/films/rock"].keys()


def test_it_is_kept_for_a_while(alice: Person, bob: Person, site: Site) -> None:
    url = site.put("/page", "<title>One</title>")
    assert preview(alice, url) == preview(bob, url) == {"og:title": "One"}
    assert site.paths() == ["/page"]
    preview(bob, url, "fr")
    assert site.paths() == ["/page", "/page"], "in another language it may be another page"
    assert site.asked[0][1]["accept-language"] == "en"


def test_links_that_are_pictures(alice: Person, site: Site) -> None:
    found = preview(alice, site.put("/cat.gif", moving("GIF"), "image/gif"))
    assert (found["og:image:type"], found["og:image:width"]) == ("image/gif", 400)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html><script>", "image/png"),
        (png_bomb(50_000, 50_000), "image/png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (picture(), "text/html"),
        (b"", "image/png"),
        (b"x" * 5_000_000, "image/png"),
    ],
)
def test_pictures_that_are_none(alice: Person, site: Site, body: bytes, kind: str) -> None:
    site.put("/p", body, kind)
    assert preview(alice, site.put("/page", '<title>x</title><meta property="og:image" content="/p">')) == {
        "og:title": "x"
    }


@pytest.mark.parametrize("target", ["", "http://", "javascript:alert(1)", "data:image/png;base64,xx", "http://[", "//"])
def test_pictures_that_are_nowhere(alice: Person, site: Site, target: str) -> None:
    page = f'<title>x</title><meta property="og:image" content="{target}">'
    assert preview(alice, site.put("/page", page)) == {"og:title": "x"}


def test_redirects(alice: Person, site: Site) -> None:
    site.put("/there/page", '<title>x</title><meta property="og:image" content="p.png">')
    site.put("/there/p.png", picture(), "image/png")
    found = preview(alice, site.redirect("/short", "/there/page"))
    assert found["og:title"] == "x" and "og:image" in found, "what is relative counts from where the page was"
    site.redirect("/a", "/b")
    assert ask(alice, site.redirect("/b", "/a")).status == 502


@pytest.mark.parametrize(
    ("url", "status", "errcode"),
    [
        ("", 400, "M_INVALID_PARAM"),
        ("not a url", 400, "M_INVALID_PARAM"),
        ("ftp://a.example/", 400, "M_INVALID_PARAM"),
        ("file:///etc/passwd", 400, "M_INVALID_PARAM"),
        ("http://user:secret@a.example/", 400, "M_INVALID_PARAM"),
        ("http://evil.example/", 403, "M_FORBIDDEN"),
        ("https://www.evil.example:444/x", 403, "M_FORBIDDEN"),
        ("http://10.0.0.1/", 502, "M_UNKNOWN"),
        ("http://192.168.1.1:8080/admin", 502, "M_UNKNOWN"),
        ("http://169.254.169.254/latest/meta-data/", 502, "M_UNKNOWN"),
        ("http://[fd00::1]/", 502, "M_UNKNOWN"),
        ("http://0.0.0.0/", 502, "M_UNKNOWN"),
        ("http://nowhere.invalid/", 502, "M_UNKNOWN"),
    ],
)
def test_where_nobody_goes(alice: Person, url: str, status: int, errcode: str) -> None:
    answer = ask(alice, url)
    assert (answer.status, answer.json["errcode"]) == (status, errcode)


def test_a_redirect_to_a_private_address(alice: Person, site: Site) -> None:
    answer = ask(alice, site.redirect("/out", "http://10.0.0.1/secrets"))
    assert (answer.status, answer.json["errcode"]) == (502, "M_UNKNOWN")
    page = '<title>x</title><meta property="og:image" content="http://169.254.169.254/p.png">'
    assert preview(alice, site.put("/page", page)) == {"og:title": "x"}


def test_a_redirect_to_a_blocked_site(alice: Person, site: Site) -> None:
    assert ask(alice, site.redirect("/out", "http://evil.example/")).status == 502


def test_pages_that_fail_are_left_alone(alice: Person, site: Site) -> None:
    for _ in range(3):
        assert ask(alice, site.base + "/missing").status == 502
    assert site.paths() == ["/missing"]


@pytest.mark.parametrize("kind", ["application/pdf", "application/octet-stream", "video/mp4", "text/plain", ""])
def test_what_is_no_page(alice: Person, site: Site, kind: str) -> None:
    assert preview(alice, site.put("/x", b"x" * 1000, kind)) == {}


def test_large_pages(alice: Person, site: Site) -> None:
    """What a page is about stands at its beginning; the rest is let go, up to a point."""
    head = b"<title>Large</title>"
    assert preview(alice, site.put("/large", head + b" " * 7_000_000)) == {"og:title": "Large"}
    assert ask(alice, site.put("/huge", head + b" " * 9_000_000)).status == 502
    packed = gzip.compress(head + b" " * 50_000_000)
    assert ask(alice, site.put("/bomb", packed, Content_Encoding="gzip")).status == 502
    packed = gzip.compress(head + b" " * 1_000_000)
    assert preview(alice, site.put("/packed", packed, Content_Encoding="gzip")) == {"og:title": "Large"}


def test_pages_that_take_for_ever_to_read(alice: Person, site: Site) -> None:
    """Such as made some parsers take quadratic time. Whatever comes of it, it comes, and the server goes on."""
    for number, page in enumerate(("<!--" * 250_000, "<a " * 300_000)):
        assert ask(alice, site.put(f"/slow{number}", page)).status in (200, 502)
    assert alice.request("GET", "/_matrix/client/v3/account/whoami").status == 200


def test_pages_that_tell_by_oembed(alice: Person, site: Site) -> None:
    site.put("/p.png", picture(), "image/png")
    told = {"title": "From oEmbed", "provider_name": "Site", "thumbnail_url": "p.png", "html": "<p>A <b>text</b></p>"}
    site.put("/oembed", json.dumps(told), "application/json")
    link = '<link rel="alternate" type="application/json+oembed" href="/oembed?format=json">'
    found = preview(alice, site.put("/page", f"<title>Page</title>{link}"))
    assert found["og:title"] == "Page", "the page itself knows best"
    assert (found["og:site_name"], found["og:description"]) == ("Site", "A text")
    assert found["og:image"].startswith("mxc://")
    site.put("/oembed2", "[]", "application/json")
    assert preview(alice, site.put("/2", f"<title>Page</title>{link.replace('oembed?', 'oembed2?')}")) == {
        "og:title": "Page"
    }


def test_who_gets_previews(repository: ServerProcess, site: Site) -> None:
    url = site.put("/page", "<title>x</title>")
    answer = repository.request("GET", "/_matrix/media/v3/preview_url", query={"url": url})
    assert (answer.status, answer.json["errcode"]) == (401, "M_MISSING_TOKEN")
    assert site.paths() == []

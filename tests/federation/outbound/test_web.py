"""URLs as people and redirects write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.outbound.web import BadUrl, next_url, parse_url
from tests.strategies import json_text

HOME = parse_url("https://guild.example/a/b?c=d")


@pytest.mark.parametrize(
    ("text", "encrypted", "host", "port", "host_header", "target"),
    [
        ("https://guild.example", True, "guild.example", 443, "guild.example", "/"),
        ("  https://guild.example/a?b=c#d\n", True, "guild.example", 443, "guild.example", "/a?b=c"),
        ("http://Guild.Example:8080/", False, "guild.example", 8080, "Guild.Example:8080", "/"),
        ("https://[::1]:9/x", True, "::1", 9, "[::1]:9", "/x"),
        ("https://127.0.0.1?q", True, "127.0.0.1", 443, "127.0.0.1", "/?q"),
        ("https://bücher.example/käse?ü=ö", True, "xn--bcher-kva.example", 443, "xn--bcher-kva.example",
         "/k%C3%A4se?%C3%BC=%C3%B6"),
        ("https://guild.example/a b", True, "guild.example", 443, "guild.example", "/a%20b"),
    ],
)  # fmt: skip
def test_what_can_be_fetched(text: str, encrypted: bool, host: str, port: int, host_header: str, target: str) -> None:
    url = parse_url(text)
    found = (url.encrypted, url.host, url.port, url.host_header, url.target)
    assert found == (encrypted, host, port, host_header, target)


@pytest.mark.parametrize(
    "text",
    ["", "guild.example", "//guild.example", "ftp://guild.example", "javascript:alert(1)", "file:///etc/passwd", "https://",
     "https:///path", "https://a:b@guild.example/", "https://a@guild.example/", "https://guild.example:0/",
     "https://guild.example:99999/", "https://guild.example:x/", "https://[::1/", "https://guild.example\\@inside/ ü",
     "https://gu\0ild.example/", "https://guild.example/\r\nX: y"],
)  # fmt: skip
def test_what_cannot_be_fetched(text: str) -> None:
    try:
        url = parse_url(text)
    except BadUrl:
        return
    assert url.host == "guild.example", "it can, once it is encoded"
    assert url.target.isascii()
    assert url.target.isprintable()


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://www.guild.example/x#y", "https://www.guild.example/x"),
        ("/x", "https://guild.example/x"),
        ("x", "https://guild.example/a/x"),
        ("?x", "https://guild.example/a/b?x"),
        ("//other.example", "https://other.example"),
        ("http://guild.example/x", None),  # what was asked for in private is not told to everybody
        ("https://guild.example/a b", None),
        ("https://a:b@guild.example/", None),
        ("https://guild.example/\xe4", None),
        ("javascript:alert(1)", None),
    ],
)
def test_where_a_redirect_leads(location: str, where: str | None) -> None:
    target = next_url(HOME, 302, {"location": location})
    assert (None if target is None else target.text) == where


def test_what_is_no_redirect() -> None:
    assert next_url(HOME, 200, {"location": "/x"}) is None
    assert next_url(HOME, 304, {"location": "/x"}) is None
    assert next_url(HOME, 302, {}) is None


def test_from_http_to_https() -> None:
    target = next_url(parse_url("http://guild.example/"), 301, {"location": "https://guild.example/"})
    assert target is not None
    assert target.encrypted


locations = st.text(st.sampled_from("htps:/.?#@[]%a0\\ \r\n\tü"), max_size=20) | json_text


@given(locations)
def test_no_location_breaks_it(location: str) -> None:
    target = next_url(HOME, 302, {"location": location})
    if target is not None:
        assert target.text.startswith("https://")
        assert target.text.isascii()
        assert target.text.isprintable()


@given(locations | locations.map(lambda text: f"https://{text}"))
def test_no_url_breaks_it(text: str) -> None:
    try:
        url = parse_url(text)
    except BadUrl:
        return
    assert url.host
    for part in (url.text, url.host_header, url.target):
        assert part.isascii()
        assert part.isprintable()
        assert " " not in part

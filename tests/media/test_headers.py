"""File names and types as they go out and come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import TypeLimit
from homeserver.http.answer import Answer, to_bytes
from homeserver.media.headers import disposition, headers_of_file, name_in
from homeserver.media.kinds import OCTETS, clean_name, clean_type, is_inline, limit_of, served_type, sniff
from tests.media.files import picture


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (None, "inline"),
        ("", "inline"),
        ("ascii", 'inline; filename="ascii"'),
        ("name with spaces", 'inline; filename="name with spaces"'),
        ("name;with;semicolons", 'inline; filename="name;with;semicolons"'),
        ('a "quoted" \\ name', r'inline; filename="a \"quoted\" \\ name"'),
        ("🐔", "inline; filename=\"_\"; filename*=utf-8''%F0%9F%90%94"),
        ("naïve/..", "inline; filename=\"na_ve/..\"; filename*=utf-8''na%C3%AFve%2F.."),
    ],
)
def test_names_that_go_out(name: str | None, header: str) -> None:
    assert disposition("inline", name) == header


@given(st.text(max_size=200).map(clean_name))
def test_a_name_arrives_as_it_was(name: str | None) -> None:
    """From one server of ours to another, and in no header that could not be sent."""
    header = disposition("attachment", name)
    raw = to_bytes(Answer(200, b"", {"Content-Disposition": header}), date=b"now")
    assert b"\r\nContent-Disposition: " + header.encode("latin-1") + b"\r\n" in raw
    assert name_in(header) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("", None),
        ("inline", None),
        ("inline; filename=x.png", "x.png"),
        ('attachment;filename="x y.png"', "x y.png"),
        ("attachment; filename*=UTF-8''%e2%82%ac.txt; filename=euro.txt", "€.txt"),
        ("attachment; filename=euro.txt; filename*=utf-8'en'%e2%82%ac.txt", "€.txt"),
        ("attachment; filename=euro.txt; filename*=utf-8''%ff", "euro.txt"),
        ("attachment; filename=euro.txt; filename*=klingon''x", "euro.txt"),
        ('attachment; filename="\xf0\x9f\x90\x94"', "🐔"),
        ('attachment; filename="caf\xe9"', "café"),
        ('attachment; filename=""', None),
        ('attachment; x="; filename=no"; filename=yes', "yes"),
    ],
)
def test_names_that_come_in(header: str, name: str | None) -> None:
    assert name_in(header) == name


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=100))
def test_any_header_at_all(header: str) -> None:
    name_in(header)


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        (None, OCTETS),
        ("", OCTETS),
        ("image/png", "image/png"),
        ("Text/Plain; charset=utf-8", "Text/Plain; charset=utf-8"),
        ("image", OCTETS),
        ("image/", OCTETS),
        ("/png", OCTETS),
        ("image/png/x", OCTETS),
        ("image/png\r\nX-Evil: 1", OCTETS),
        ("text/html, image/png", OCTETS),
        ("im age/png", OCTETS),
        ("image/pñg", OCTETS),
        ("a/" + "b" * 300, OCTETS),
    ],
)
def test_types_that_come_in(stated: str | None, kept: str) -> None:
    assert clean_type(stated) == kept


@pytest.mark.parametrize(
    ("content_type", "inline"),
    [
        ("image/png", True),
        ("Text/Plain; charset=utf-8", True),
        ("video/mp4", True),
        ("image/svg+xml", False),
        ("image/svg", False),
        ("text/html", False),
        ("application/xhtml+xml", False),
        ("text/xml", False),
        ("application/pdf", False),
        ("application/javascript", False),
        (OCTETS, False),
    ],
)
def test_what_is_shown_in_place(content_type: str, inline: bool) -> None:
    assert is_inline(content_type) is inline
    headers = headers_of_file(content_type, "x", etag='"1"')
    assert headers["Content-Disposition"].startswith("inline" if inline else "attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"] and "script-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_pictures_that_are_none() -> None:
    """What is encrypted, or a page, and says that it is a picture."""
    assert served_type("image/png", sniff(picture("PNG"))) == "image/png"
    assert served_type("image/png", sniff(picture("JPEG"))) == "image/png", "browsers see to that"
    assert served_type("image/jpeg", sniff(b"<html><script>alert(1)</script>")) == OCTETS
    assert served_type("IMAGE/GIF; x=y", sniff(bytes(range(256)))) == OCTETS
    assert served_type("image/svg+xml", sniff(b"<svg/>")) == "image/svg+xml"
    assert served_type("text/plain", sniff(picture("PNG"))) == "text/plain"


@pytest.mark.parametrize(
    ("content_type", "limit"),
    [("video/mp4", 5), ("Video/WebM; codecs=vp9", 10), ("image/png", None), ("text/html", 0), ("videos/x", None)],
)
def test_limits_of_types(content_type: str, limit: int | None) -> None:
    limits = [
        TypeLimit(type="video/*", max_bytes=10),
        TypeLimit(type="video/mp4", max_bytes=5),
        TypeLimit(type="text/html", max_bytes=0),
    ]
    assert limit_of(limits, content_type) == limit

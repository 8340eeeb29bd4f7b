"""What a web page says that it is about. Runs in a worker: pages can be made so that reading them takes for ever.

    og:…, as the page has them
    og:title        or twitter:title, <title>, the first <h1>
    og:description  or twitter:description, the page's description, the beginning of its text
    og:image        or twitter:image, <link rel="image_src">

Spec: https://ogp.me/
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

from homeserver.media.workshop.jobs import Page, ReadPage

MOST_PROPERTIES = 50
MOST_VALUE = 1000
MOST_TEXT = 500
ENOUGH_TEXT = 2000
OEMBED = "application/json+oembed"

_OG = re.compile(r"og:[a-z0-9_]{1,32}(?::[a-z0-9_]{1,32})?")
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_SILENT = frozenset(
    {
        "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "nav", "header", "footer",
        "aside", "form", "button", "select", "textarea", "canvas", "audio", "video", "head",
    }
)  # fmt: skip
"""Elements whose text is not what a page is about."""
_BLOCKS = frozenset({"p", "div", "br", "li", "h1", "h2", "h3", "h4", "section", "article", "td", "tr", "blockquote"})
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_page(job: ReadPage) -> Page:
    """Never fails: of what is no page, there is nothing to be told."""
    reader = _Reader()
    try:
        reader.feed(decode(Path(job.path).read_bytes(), job.charset))
        reader.close()
    except _Enough:
        pass
    return Page(reader.properties(), reader.oembed)


def decode(data: bytes, charset: str | None) -> str:
    """A page's text, by the header, its byte order mark, what it says of itself, or as UTF-8."""
    stated = _META_CHARSET.search(data[:2048])
    marked = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    for name in (marked, charset, stated and stated[1].decode("ascii"), "utf-8"):
        if name:
            try:
                return data.decode(name)
            except (LookupError, UnicodeError):
                continue
    return data.decode("utf-8", "replace")


class _Enough(Exception):
    """All that is wanted of a page has been read."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.oembed: str | None = None
        self._found: dict[str, str] = {}
        self._meta: dict[str, str] = {}
        self._title = ""
        self._heading = ""
        self._text: list[str] = []
        self._length = 0
        self._silent: list[str] = []
        self._in: str | None = None
        """`title` or `h1`, while their text is read."""

    def properties(self) -> dict[str, str]:
        found = {name: text for name, text in self._found.items() if text}
        description = self._meta.get("description") or _beginning("".join(self._text))
        for name, stand_ins in {
            "og:title": (self._meta.get("twitter:title"), self._title, self._heading),
            "og:description": (self._meta.get("twitter:description"), description),
            "og:image": (self._meta.get("twitter:image"), self._meta.get("image_src")),
        }.items():
            text = found.get(name) or next((_tidy(one) for one in stand_ins if one and _tidy(one)), "")
            if text:
                found[name] = text[:MOST_VALUE]
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        match tag:
            case "meta":
                self._meta_tag(values)
            case "link":
                self._link_tag(values)
            case "title" | "h1" if self._in is None:
                self._in = tag
            case "body":
                self._silent.clear()  # nobody need write where the head ends
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag in _BLOCKS:
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._in:
            self._in = None
        if tag in self._silent:
            while self._silent and self._silent.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._in == "title":
            self._title = (self._title + data)[: 2 * MOST_VALUE]
        elif self._in == "h1":
            self._heading = (self._heading + data)[: 2 * MOST_VALUE]
        if not self._silent and self._in != "title":
            self._text.append(data)
            self._length += len(data)
            if self._length > ENOUGH_TEXT:
                raise _Enough

    def _meta_tag(self, values: Mapping[str, str]) -> None:
        content = _tidy(values.get("content", ""))[:MOST_VALUE]
        for attribute in ("property", "name"):
            name = values.get(attribute, "").strip().lower()
            if _OG.fullmatch(name) and len(self._found) < MOST_PROPERTIES:
                self._found.setdefault(name, content)
            elif name in ("description", "twitter:title", "twitter:description", "twitter:image"):
                self._meta.setdefault(name, content)

    def _link_tag(self, values: Mapping[str, str]) -> None:
        target = values.get("href", "").strip()
        if values.get("type", "").lower() == OEMBED and self.oembed is None and target:
            self.oembed = target[:MOST_VALUE]
        if values.get("rel", "").lower() == "image_src" and target:
            self._meta.setdefault("image_src", target[:MOST_VALUE])


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _beginning(text: str) -> str:
    """So much of a text as fits, up to the end of a word."""
    whole = _tidy(text)
    if len(whole) <= MOST_TEXT:
        return whole
    cut, _, _ = whole[:MOST_TEXT].rpartition(" ")
    return (cut or whole[:MOST_TEXT]) + "…"

"""oEmbed: what a site tells in JSON about a page that says little itself.

Spec: https://oembed.com/
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urljoin

import msgspec

from federation.outbound.web import BadUrl, Url, parse_url
from homeserver.media.workshop.jobs import Page

PROVIDERS: Mapping[str, str] = {
    "x.com": "https://publish.x.com/oembed?dnt=true&omit_script=true&url=",
    "twitter.com": "https://publish.x.com/oembed?dnt=true&omit_script=true&url=",
}
"""Sites that tell by oEmbed only, and do not say so in their pages."""


class Told(msgspec.Struct, frozen=True):
    """The members that are of use here."""

    title: str | None = None
    author_name: str | None = None
    provider_name: str | None = None
    thumbnail_url: str | None = None
    html: str | None = None


def tells_all(url: Url) -> bool:
    """Whether a site's pages say nothing of themselves."""
    return _site(url) in PROVIDERS


def address(url: Url, place: str, page: Page) -> Url | None:
    """Where to ask about a page; None where there is nowhere to, or no need. `place` is where it was in the end."""
    if (provider := PROVIDERS.get(_site(url))) is not None:
        target = provider + quote(url.text, safe="")
    elif page.oembed is not None and not {"og:title", "og:description", "og:image"} <= page.properties.keys():
        target = urljoin(place, page.oembed)
    else:
        return None
    try:
        return parse_url(target)
    except BadUrl:
        return None


def read(body: bytes) -> Told:
    """An answer. Of what is none, there is nothing to be told."""
    try:
        return msgspec.json.decode(body, type=Told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Told()


def properties(told: Told) -> dict[str, str]:
    """What is told, as OpenGraph has it."""
    found = {
        "og:title": told.title or told.author_name,
        "og:site_name": told.provider_name,
        "og:image": told.thumbnail_url,
    }
    return {name: text for name, text in found.items() if text}


def _site(url: Url) -> str:
    return url.host.removeprefix("www.").removeprefix("mobile.")

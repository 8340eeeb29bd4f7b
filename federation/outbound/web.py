"""Fetching whatever http and https URLs somebody else named: previews, push gateways, webhooks, files elsewhere.

`federation.outbound.web_client` fills this seam with connections, tests with memory.

Errors are those of `federation.outbound.transport`, with the URL's host as the destination.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from federation.outbound.transport import Sink

TIMEOUT_S = 20.0
MAX_BYTES = 1024 * 1024
MAX_REDIRECTS = 5

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_USUAL_PORTS = {"http": 80, "https": 443}


class WebRequest(msgspec.Struct, frozen=True):
    """One request to anywhere, redirects included."""

    url: str
    """As people write it; what may not stand in a request is percent-encoded."""
    method: str = "GET"
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Without `Host` and `Content-Length`. Credentials among them are for the URL's own host only."""
    body: bytes | None = None
    timeout_s: float = TIMEOUT_S
    """For the whole of it, from the first look-up to the last byte."""
    max_bytes: int = MAX_BYTES
    """Of the body, before and after it is unpacked."""
    max_redirects: int = MAX_REDIRECTS
    plain: bool = True
    """Whether http will do. No redirect leads from https to http all the same."""
    sink: Sink | None = None
    """As for `federation.outbound.transport.Request`; it is given the unpacked body."""


class WebResponse(msgspec.Struct, frozen=True):
    """The answer, whatever its status. One that redirects stands here if it was not followed."""

    url: str
    """Where it came from in the end."""
    status: int
    headers: Mapping[str, str]
    """By name in lower case. `content-length` and `content-encoding` are those of the body before it was unpacked."""
    body: bytes


class Web(Protocol):
    """Reaches public addresses, and no others but those that the settings allow."""

    async def fetch(self, request: WebRequest) -> WebResponse:
        """The answer in the end. Raises `Unreachable`, `BadAnswer`, and what the sink raises."""

    async def close(self) -> None:
        """Hang up everywhere; requests under way are `Unreachable`."""


class BadUrl(ValueError):
    """What cannot be fetched. The message says why."""


class Url(msgspec.Struct, frozen=True):
    """An http or https URL taken apart."""

    text: str
    """All of it in ASCII, without its fragment."""
    encrypted: bool
    host: str
    """A name or an IP address, in lower case and without brackets."""
    port: int
    host_header: str
    target: str
    """Path and query as they stand in a request."""

    @property
    def origin(self) -> tuple[bool, str, int]:
        """Whom credentials are for."""
        return self.encrypted, self.host, self.port


def parse_url(text: str) -> Url:
    """Take apart what somebody wrote. Raises `BadUrl`: no credentials, and nothing that is not http or https."""
    text = text.strip()
    try:
        return _take_apart(text if _is_plain(text) else _encode(text))
    except ValueError as error:
        raise BadUrl(f"this URL cannot be fetched: {error}") from None


def _encode(text: str) -> str:
    """As people write it → as it can be sent."""
    import hyperlink  # few need it

    uri: str = hyperlink.URL.from_text(text).to_uri().to_text()
    return uri


def next_url(url: Url, status: int, headers: Mapping[str, str]) -> Url | None:
    """Where a redirect leads; None for what is no redirect, or none that may be followed."""
    if status not in REDIRECTS or "location" not in headers:
        return None
    try:
        target = _take_apart(urljoin(url.text, headers["location"]))
    except ValueError:
        return None
    return None if url.encrypted and not target.encrypted else target


def _take_apart(text: str) -> Url:
    parts = urlsplit(text)
    usual = _USUAL_PORTS.get(parts.scheme)
    if usual is None or not parts.hostname:
        raise BadUrl("it has to be http or https, with a host")
    if parts.username is not None or parts.password is not None:
        raise BadUrl("there are credentials in it")
    port = usual if parts.port is None else parts.port
    if not port:
        raise BadUrl("its port does not exist")
    if not all(_is_plain(part) for part in (parts.netloc, parts.path, parts.query)):
        raise BadUrl("there are characters in it that no URL has")
    return Url(
        text=parts._replace(fragment="").geturl(),
        encrypted=parts.scheme == "https",
        host=parts.hostname,
        port=port,
        host_header=parts.netloc,
        target=_target(parts),
    )


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _is_plain(text: str) -> bool:
    """Whether it can stand in a request as it is."""
    return text.isascii() and text.isprintable() and " " not in text

"""Previews of web pages: fetched safely, read in the workshop, kept for a while.

    asked for ──> kept? ──> fetch the page ──> read it ──> its oEmbed, if it says too little ──> its picture ──> keep

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

import orjson
import structlog
from attrs import define, field

from config import Previews as Settings
from federation.bounded import Bounded
from federation.flight import SingleFlight
from federation.outbound.transport import BadAnswer, PeerError
from federation.outbound.web import BadUrl, Url, Web, WebRequest, parse_url
from homeserver.errors import Forbidden, InvalidParam, LimitExceeded, MatrixError, NotFound
from homeserver.media.draft import Draft
from homeserver.media.kinds import essence
from homeserver.media.library import Library
from homeserver.media.previews import oembed
from homeserver.media.previews.pictures import PreviewPictures
from homeserver.media.sinks import DraftSink
from homeserver.media.turns import AGAIN_MS, Turns
from homeserver.media.workshop.jobs import Failure, Page, ReadPage, WorkFailed
from homeserver.media.workshop.pool import Workshop
from storage import url_previews as rows
from storage.url_previews import Preview

PAGES = frozenset({"text/html", "application/xhtml+xml"})
ACCEPT = "text/html, application/xhtml+xml, image/*;q=0.8, application/json;q=0.5, */*;q=0.1"
MOST_OF_PAGE = 1024 * 1024
"""What a page is about stands at its beginning."""
MOST_AT_ALL = 8 * 1024 * 1024
"""A page may be as large as this, though its end is not kept."""
TIMEOUT_S = 15.0
FAILED_MS = 5 * 60 * 1000
"""For how long a page that could not be fetched is left alone."""
MOST_FAILED = 2000
MAX_LANGUAGE = 100
ELSEWHERE = ("og:image", "og:video", "og:audio")
"""What would lead clients to somewhere else, and tell whoever is there that they were."""

_log = structlog.get_logger("homeserver.media")


class CannotFetch(MatrixError):
    """502: the page could not be had."""

    def __init__(self) -> None:
        super().__init__(502, "M_UNKNOWN", "The page could not be fetched")


@define(eq=False)
class UrlPreviews:
    """Answers what a URL is about. `fetched` counts since the start."""

    _library: Library
    _workshop: Workshop
    _web: Web
    _pictures: PreviewPictures
    _settings: Settings
    _flight: SingleFlight[bytes, bytes] = field(factory=SingleFlight, init=False)
    _failed: Bounded[bytes, int] = field(factory=lambda: Bounded(MOST_FAILED), init=False)
    """Until when what could not be fetched is not tried again."""
    _turns: Turns = field(factory=Turns, init=False)
    fetched: int = field(default=0, init=False)

    async def preview(self, user_id: str, is_guest: bool, text: str, language: str | None) -> bytes:
        """The answer for a URL as JSON.

        Raises NotFound where there are no previews, Forbidden, InvalidParam, CannotFetch, LimitExceeded.
        """
        if not self._settings.enabled:
            raise NotFound("This server makes no previews", "M_UNRECOGNIZED")
        if is_guest and not self._settings.for_guests:
            raise Forbidden("Guests get no previews", "M_GUEST_ACCESS_FORBIDDEN")
        try:
            url = parse_url(text)
        except BadUrl as error:
            raise InvalidParam(f"Query parameter 'url': {error}") from None
        if self._is_blocked(url.host):
            raise Forbidden("Previews of this site are not made here")
        language = (language or "").strip()[:MAX_LANGUAGE] or self._settings.accept_language
        if not (language.isascii() and language.isprintable()):
            language = self._settings.accept_language
        key = hashlib.sha256(f"{language}\0{url.text}".encode()).digest()
        now = self._library.clock.now_ms()
        kept = await self._library.database.run(rows.find, key, now)
        if kept is not None:
            return kept.answer
        if (self._failed.get(key) or 0) > now:
            raise CannotFetch()
        return await self._flight.do(key, lambda: self._make(key, user_id, url, language))

    async def tidy(self) -> None:
        """Forget those that are old."""
        while await self._library.database.write(rows.delete_expired, self._library.clock.now_ms()):
            pass

    async def _make(self, key: bytes, user_id: str, url: Url, language: str) -> bytes:
        async with self._turns.of(user_id):
            try:
                found = await self._look_at(url, language)
            except (PeerError, WorkFailed) as error:
                if isinstance(error, WorkFailed) and error.failure is Failure.BUSY:
                    raise LimitExceeded(AGAIN_MS) from None
                self._failed.put(key, self._library.clock.now_ms() + FAILED_MS)
                _log.info("no preview", host=url.host, why=str(error)[:200])
                raise CannotFetch() from None
        self.fetched += 1
        image: str | None = None
        answer: dict[str, Any] = dict(found)
        if (target := answer.pop("og:image", None)) is not None:
            picture = await self._pictures.fetch(target, self._is_blocked)
            if picture is not None:
                image = picture.media_id
                answer |= picture.properties
        json = orjson.dumps(answer)
        now = self._library.clock.now_ms()
        await self._library.database.write(rows.put, key, Preview(now + self._settings.keep_ms, json, image), now)
        return json

    async def _look_at(self, url: Url, language: str) -> Mapping[str, str]:
        """What is at a URL, as OpenGraph has it; `og:image` is an absolute URL, if there is one."""
        headers = {"Accept": ACCEPT, "Accept-Language": language}
        async with self._library.draft() as draft:
            sink = DraftSink(self._library, draft, _only_pages, MOST_OF_PAGE)
            request = WebRequest(url.text, headers=headers, timeout_s=TIMEOUT_S, max_bytes=MOST_AT_ALL, sink=sink)
            try:
                response = await self._web.fetch(request)
            except _OtherKind as other:
                return {"og:image": url.text} if other.kind.startswith("image/") else {}
            if response.status != 200 or self._is_blocked(parse_url(response.url).host):
                raise BadAnswer(url.host, f"status {response.status} from {response.url[:100]}")
            await sink.flush()
            page = await self._read(draft, _charset(sink.headers))
        found = _absolute(page.properties, response.url)
        more = oembed.address(url, response.url, page)
        if more is not None and not self._is_blocked(more.host):
            told = await self._ask_oembed(more, headers)
            found = found | told if oembed.tells_all(url) else told | found
        return found

    async def _read(self, draft: Draft, charset: str | None) -> Page:
        await self._library.workers.run(draft.finish)
        return await self._workshop.do(ReadPage(str(draft.path), charset), Page)

    async def _ask_oembed(self, url: Url, headers: Mapping[str, str]) -> dict[str, str]:
        try:
            response = await self._web.fetch(WebRequest(url.text, headers=headers, timeout_s=TIMEOUT_S))
        except PeerError:
            return {}
        if response.status != 200:
            return {}
        told = oembed.read(response.body)
        found = oembed.properties(told)
        if told.html:
            async with self._library.draft() as draft:
                await self._library.write(draft, [told.html.encode("utf-8", "replace")])
                text = (await self._read(draft, "utf-8")).properties.get("og:description")
            if text:
                found["og:description"] = text
        return _absolute(found, response.url)

    def _is_blocked(self, host: str) -> bool:
        return any(host == one or host.endswith(f".{one}") for one in self._settings.blocked)


class _OtherKind(Exception):
    """What is there is no page."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _only_pages(headers: Mapping[str, str]) -> None:
    kind = essence(headers.get("content-type", ""))
    if kind not in PAGES:
        raise _OtherKind(kind)


def _charset(headers: Mapping[str, str]) -> str | None:
    found = _CHARSET.search(headers.get("content-type", ""))
    return found[1] if found else None


_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)


def _absolute(properties: Mapping[str, str], place: str) -> dict[str, str]:
    """With the picture's URL as one that can be fetched, and without what would lead clients to somewhere else."""
    found = {name: text for name, text in properties.items() if not name.startswith(ELSEWHERE)}
    image = properties.get("og:image") or properties.get("og:image:secure_url") or properties.get("og:image:url")
    if image:
        with suppress(ValueError):
            found["og:image"] = urljoin(place, image)
    return found

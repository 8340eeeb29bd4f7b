"""Files of other servers: fetched when somebody here asks for one, and kept for a while.

    /_matrix/federation/v1/media/download ──> two parts ──┬──> the file ───────────────────┬──> kept
          │ 404 M_UNRECOGNIZED                            └──> where it is ──> fetched ────┤
          v                                                                                │
    /_matrix/media/v3/download, which servers of old answer ──> the file ──────────────────┘

Whatever comes is somebody else's word: its type decides only how it is given out, its size is limited, and where it is
said to be elsewhere, no private address is asked for it.

Spec: https://spec.matrix.org/v1.19/server-server-api/#content-repository
"""

from __future__ import annotations

from attrs import define, field
from msgspec.structs import replace

from config import Media as Settings
from federation.flight import SingleFlight
from federation.outbound.client import path_to
from federation.outbound.downloads import Downloads as PeerDownloads
from federation.outbound.patience import Patience
from federation.outbound.transport import PeerError, Refused, Unreachable
from homeserver.errors import LimitExceeded, MatrixError, NotFound
from homeserver.media.arrivals import LONGEST_WAIT_MS
from homeserver.media.care import placeholder
from homeserver.media.downloads import NotYetUploaded
from homeserver.media.draft import Draft
from homeserver.media.headers import name_in
from homeserver.media.kinds import clean_name, clean_type, served_type, sniff
from homeserver.media.library import Library
from homeserver.media.remote_sink import FileSink, TooMuch
from homeserver.media.workshop.ladder import WHOLE
from storage import media as rows
from storage import thumbnails as thumbnail_rows
from storage.media import Added, MediaKey, Medium
from storage.ports import Cursor
from storage.thumbnails import Size, Thumbnail

MOST_THUMBNAIL = 10 * 1024 * 1024
THUMBNAILS = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/apng"})
TIMEOUT_S = 300.0
UNLIMITED = 2**50
"""For the transport: the sink limits what comes, and knows what to say of it."""
BUSY_MS = 5000


class TooLargeElsewhere(MatrixError):
    """502. Spec: https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations"""

    def __init__(self) -> None:
        super().__init__(502, "M_TOO_LARGE", "Content is too large to serve")


class CannotHave(MatrixError):
    """502: the other server does not answer, or answers nonsense."""

    def __init__(self) -> None:
        super().__init__(502, "M_UNKNOWN", "The server that has this file can't give it just now")


@define(eq=False)
class RemoteMedia:
    """Implements `Elsewhere` and `ElsewhereMade`. `fetched_files` counts since the start."""

    _library: Library
    _peers: PeerDownloads
    _patience: Patience
    _settings: Settings
    _files: SingleFlight[MediaKey, Medium] = field(factory=SingleFlight, init=False)
    _thumbnails: SingleFlight[tuple[MediaKey, Size], Thumbnail | None] = field(factory=SingleFlight, init=False)
    fetched_files: int = field(default=0, init=False)
    fetched_bytes: int = field(default=0, init=False)

    async def fetch(self, origin: str, media_id: str, timeout_ms: int) -> Medium:
        """Have a file here.

        Raises NotFound, NotYetUploaded, TooLargeElsewhere, LimitExceeded, CannotHave, Unavailable.
        """
        return await self._files.do((origin, media_id), lambda: self._fetch(origin, media_id, timeout_ms))

    async def fetch_thumbnail(self, origin: str, media_id: str, size: Size, timeout_ms: int) -> Thumbnail | None:
        """Have one here that the other server has made; None where the file itself has to be fetched.

        Raises NotFound, NotYetUploaded, CannotHave where the server can't be reached, Unavailable.
        """
        if (size.width, size.height) == WHOLE:
            return None
        key = (origin, media_id)
        return await self._thumbnails.do((key, size), lambda: self._fetch_thumbnail(key, size, timeout_ms))

    async def _fetch(self, origin: str, media_id: str, timeout_ms: int) -> Medium:
        wait = str(max(0, min(timeout_ms, LONGEST_WAIT_MS)))
        path = path_to("/_matrix/federation/v1/media/download/{}", media_id, query=[("timeout_ms", wait)])
        async with self._library.draft() as draft:
            sink = FileSink(self._library, draft, self._settings.remote_max_bytes)
            try:
                await self._ask(origin, path, sink)
            except Refused as refused:
                if not _is_unknown(refused):
                    raise _refusal(refused) from None
                sink = await self._ask_as_of_old(origin, media_id, wait, draft)
            medium = self._medium(origin, media_id, sink)
            file = await self._library.shelve(draft, "remote")
        medium = _filled(medium, draft, file)
        verdict = await self._library.enter(medium, rows.add)
        if verdict is Added.DONE:
            self.fetched_files += 1
            self.fetched_bytes += medium.size_bytes
        found = await self._library.find(origin, media_id)
        if found is None or found.file is None:
            raise NotFound("There is no such file")
        return found

    async def _ask_as_of_old(self, origin: str, media_id: str, wait: str, draft: Draft) -> FileSink:
        """COMPAT servers that know nothing of authenticated media, which came with v1.11."""
        query = [("allow_remote", "false"), ("allow_redirect", "true"), ("timeout_ms", wait)]
        path = path_to("/_matrix/media/v3/download/{}/{}", origin, media_id, query=query)
        sink = FileSink(self._library, draft, self._settings.remote_max_bytes, in_parts=False)
        try:
            await self._ask(origin, path, sink)
        except Refused as refused:
            raise _refusal(refused) from None
        return sink

    async def _fetch_thumbnail(self, key: MediaKey, size: Size, timeout_ms: int) -> Thumbnail | None:
        origin, media_id = key
        query = [
            ("width", str(size.width)),
            ("height", str(size.height)),
            ("method", size.method),
            ("animated", "true" if size.animated else "false"),
            ("timeout_ms", str(max(0, min(timeout_ms, LONGEST_WAIT_MS)))),
        ]
        path = path_to("/_matrix/federation/v1/media/thumbnail/{}", media_id, query=query)
        async with self._library.draft() as draft:
            sink = FileSink(self._library, draft, MOST_THUMBNAIL)
            try:
                await self._ask(origin, path, sink)
            except Refused as refused:
                if refused.errcode in ("M_NOT_FOUND", "M_NOT_YET_UPLOADED"):
                    raise _refusal(refused) from None
                return None  # it makes none, or not of this: perhaps we can
            except TooLargeElsewhere:
                return None
            kind = sniff(draft.head)
            if kind not in THUMBNAILS:
                return None
            file = await self._library.shelve(draft, "thumbnails")
        made = Thumbnail(size, kind, draft.size_bytes, file)
        await self._library.database.write(_enter, key, made, self._library.clock.now_ms())
        return made

    async def _ask(self, origin: str, path: str, sink: FileSink) -> None:
        """Fetch what is at a path, from there or where it says; all that has come is written then.

        Raises Refused where the peer answers with an error, and MatrixError for whatever else goes wrong.
        """
        try:
            await self._patience.ask(origin, lambda: self._get(origin, path, sink))
            if (url := sink.end()) is not None:
                await self._peers.follow(origin, url, sink, max_bytes=UNLIMITED, timeout_s=TIMEOUT_S)
            await sink.flush()
        except TooMuch:
            raise TooLargeElsewhere() from None
        except Refused:
            raise
        except PeerError:
            raise CannotHave() from None

    async def _get(self, origin: str, path: str, sink: FileSink) -> None:
        """The answer's body into the sink. Where it breaks off, and the peer lets us, the rest is asked for once."""
        try:
            await self._peers.get(origin, path, sink, max_bytes=UNLIMITED, timeout_s=TIMEOUT_S)
        except Unreachable:
            rest = sink.rest()
            if rest is None:
                raise
            await self._peers.get(origin, path, sink, max_bytes=UNLIMITED, timeout_s=TIMEOUT_S, headers=rest)

    def _medium(self, origin: str, media_id: str, sink: FileSink) -> Medium:
        now = self._library.clock.now_ms()
        return Medium(
            origin=origin,
            media_id=media_id,
            user_id=None,
            created_ts=now,
            expires_ts=None,
            used_ts=now,
            size_bytes=0,
            type=clean_type(sink.file_headers.get("content-type")),
            name=clean_name(name_in(sink.file_headers.get("content-disposition", ""))),
            sha256=None,
            file=None,
            is_open=not self._settings.freeze,
        )


def _filled(medium: Medium, draft: Draft, file: str) -> Medium:
    kind = served_type(medium.type, sniff(draft.head))
    return replace(medium, size_bytes=draft.size_bytes, type=kind, file=file)


def _enter(cursor: Cursor, key: MediaKey, made: Thumbnail, now: int) -> None:
    rows.note_remote(cursor, placeholder(*key, now))
    thumbnail_rows.add(cursor, key, [made])


def _is_unknown(refused: Refused) -> bool:
    """Whether a server knows nothing of the endpoint: then it may know the one before."""
    if refused.errcode == "M_UNRECOGNIZED":
        return True
    # COMPAT proxies that answer for what they don't know, and servers that take the path for another of theirs.
    return refused.status in (400, 404, 405) and refused.errcode == ""


def _refusal(refused: Refused) -> MatrixError:
    """What to tell whoever asked."""
    match refused.status, refused.errcode:
        case _, "M_NOT_YET_UPLOADED":
            return NotYetUploaded()
        case _, "M_TOO_LARGE":
            return TooLargeElsewhere()
        case 429, _:
            return LimitExceeded(refused.retry_after_ms or BUSY_MS)
        case ((403 | 404 | 410), _):
            return NotFound("There is no such file on its server")
        case _:
            return CannotHave()

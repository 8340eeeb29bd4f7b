"""Files that people here upload, at once or after they made an address for them.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from attrs import define, field
from msgspec.structs import replace

from config import Media as Settings
from homeserver.errors import Forbidden, LimitExceeded, MatrixError, NotFound
from homeserver.http.bodies import PIECE, IncomingBody
from homeserver.media.arrivals import Arrivals
from homeserver.media.draft import Draft
from homeserver.media.kinds import HEAD_BYTES, clean_name, clean_type, limit_of, served_type, sniff
from homeserver.media.library import Library
from homeserver.media.uris import check_media_id, new_media_id, uri_of
from storage import media as rows
from storage.media import Added, Medium, Quota
from storage.ports import Cursor

AT_ONCE = 8
"""Uploads of one user that are under way at once."""
BUSY_MS = 1000

_OVER_QUOTA = "You have uploaded as much as you may; delete something first"


class Described(msgspec.Struct, frozen=True):
    """What somebody says of a file that is to come."""

    user_id: str
    content_type: str | None
    name: str | None


@define(eq=False)
class Uploads:
    """Takes files in. `uploaded_bytes` and `uploaded_files` count since the start."""

    _library: Library
    _arrivals: Arrivals
    _settings: Settings
    _under_way: Counter[str] = field(factory=Counter, init=False)
    uploaded_files: int = field(default=0, init=False)
    uploaded_bytes: int = field(default=0, init=False)

    async def upload(self, told: Described, body: IncomingBody) -> str:
        """Take a file in; its mxc:// URI.

        Raises Forbidden where the type is not allowed, or the user's quota is full; TooLarge; LimitExceeded.
        """
        medium = self._medium(told, new_media_id())
        verdict = await self._take(medium, body, rows.add)
        if verdict is not Added.DONE:
            raise _refusal(verdict)
        return uri_of(*medium.key)

    async def create(self, user_id: str) -> tuple[str, int]:
        """Make an address for a file that comes later: the URI, and until when (ms since 1970) it must have come.

        Raises LimitExceeded where the user has too many of these.
        """
        now = self._library.clock.now_ms()
        expires_ts = now + self._settings.pending_ms
        medium = self._medium(Described(user_id, None, None), new_media_id(), expires_ts=expires_ts)
        first_end = await self._library.database.write(rows.create, medium, self._settings.max_pending)
        if first_end is not None:
            raise LimitExceeded(max(1, first_end - now))
        return uri_of(*medium.key), expires_ts

    async def fill(self, origin: str, media_id: str, told: Described, body: IncomingBody) -> None:
        """Take in the file for an address that was made before.

        Raises NotFound, InvalidParam for what is no media id, Forbidden where somebody else made it, 409
        `M_CANNOT_OVERWRITE_MEDIA`, and as `upload`.
        """
        check_media_id(media_id)
        if origin != self._library.server_name:
            raise NotFound("Unknown media ID: it is another server's")
        medium = self._medium(told, media_id)
        verdict = await self._library.database.run(rows.may_fill, medium.key, told.user_id, medium.created_ts)
        if verdict is Added.DONE:
            verdict = await self._take(medium, body, rows.fill)
        if verdict is not Added.DONE:
            raise _refusal(verdict)
        self._arrivals.came(medium.key)

    async def _take(
        self, medium: Medium, body: IncomingBody, enter: Callable[[Cursor, Medium, Quota | None], Added]
    ) -> Added:
        assert medium.user_id is not None
        quota = Quota(self._settings.user_quota_bytes, self._settings.user_quota_files)
        async with self._turn(medium.user_id):
            body.limit(self._settings.max_upload_bytes)
            self._limit(body, medium.type)
            await self._check_quota(medium.user_id, quota, body)
            async with self._library.draft() as draft:
                last = await self._receive(draft, body)
                file = await self._library.shelve(draft, "local", last)
                filled = _of_draft(medium, draft, file)
                verdict = await self._library.enter(filled, lambda cursor, it: enter(cursor, it, quota))
        if verdict is Added.DONE:
            self.uploaded_files += 1
            self.uploaded_bytes += filled.size_bytes
        return verdict

    async def _receive(self, draft: Draft, body: IncomingBody) -> Sequence[bytes]:
        """Write what comes to the draft, but for the last of it, which is given back: most files are only that."""
        pieces = await body.read(HEAD_BYTES if body.length is not None and body.length > PIECE else PIECE)
        if self._settings.type_limits and (found := sniff(b"".join(pieces)[:HEAD_BYTES])) is not None:
            self._limit(body, found)
        while not body.complete:
            with body.tap() as tap:
                await self._library.write(draft, pieces, tap)
            # What came to its end by the clock has more to give.
            pieces = await body.read() if tap is None or tap.dry else []
        return [*pieces, *await body.read()]

    def _limit(self, body: IncomingBody, content_type: str) -> None:
        most = limit_of(self._settings.type_limits, content_type)
        if most == 0:
            raise Forbidden("Files of this type may not be uploaded here")
        if most is not None:
            body.limit(most)

    async def _check_quota(self, user_id: str, quota: Quota, body: IncomingBody) -> None:
        """Before the body is read; what counts is what is true when it is entered."""
        if quota.most_bytes is None and quota.most_files is None:
            return
        size_bytes, files = await self._library.database.run(rows.usage, user_id)
        full = quota.most_files is not None and files >= quota.most_files
        if full or (quota.most_bytes is not None and size_bytes + (body.length or 0) > quota.most_bytes):
            raise Forbidden(_OVER_QUOTA)

    def _medium(self, told: Described, media_id: str, expires_ts: int | None = None) -> Medium:
        now = self._library.clock.now_ms()
        return Medium(
            origin=self._library.server_name,
            media_id=media_id,
            user_id=told.user_id,
            created_ts=now,
            expires_ts=expires_ts,
            used_ts=now,
            size_bytes=0,
            type=clean_type(told.content_type),
            name=clean_name(told.name),
            sha256=None,
            file=None,
            is_open=not self._settings.freeze,
        )

    @asynccontextmanager
    async def _turn(self, user_id: str) -> AsyncIterator[None]:
        if self._under_way[user_id] >= AT_ONCE:
            raise LimitExceeded(BUSY_MS)
        self._under_way[user_id] += 1
        try:
            yield
        finally:
            self._under_way[user_id] -= 1
            if not self._under_way[user_id]:
                del self._under_way[user_id]


def _of_draft(medium: Medium, draft: Draft, file: str) -> Medium:
    kind = served_type(medium.type, sniff(draft.head))
    return replace(medium, size_bytes=draft.size_bytes, type=kind, file=file)


def _refusal(verdict: Added) -> MatrixError:
    match verdict:
        case Added.OVER_QUOTA:
            return Forbidden(_OVER_QUOTA)
        case Added.NOT_YOURS:
            return Forbidden("Somebody else made this media ID")
        case Added.KNOWN:
            return MatrixError(409, "M_CANNOT_OVERWRITE_MEDIA", "Media already uploaded")
        case _:
            return NotFound("Unknown media ID: it was never made, or has expired")

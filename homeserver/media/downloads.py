"""Giving files out: ours, and those of other servers once they are here.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog
from attrs import define, field, frozen

from homeserver.errors import MatrixError, NotFound
from homeserver.http.route import Reply
from homeserver.media.arrivals import Arrivals
from homeserver.media.headers import headers_of_file
from homeserver.media.library import Library
from homeserver.media.ranges import is_known, wanted_part
from homeserver.media.store.port import NotStored
from homeserver.media.uris import check_address
from storage.media import Medium

DEFAULT_WAIT_MS = 20_000

_log = structlog.get_logger("homeserver.media")


class NotYetUploaded(MatrixError):
    """504. Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid"""

    def __init__(self) -> None:
        super().__init__(504, "M_NOT_YET_UPLOADED", "Media has not been uploaded yet")


class Elsewhere(Protocol):
    """Fetches files of other servers."""

    async def fetch(self, origin: str, media_id: str, timeout_ms: int) -> Medium:
        """Have a file here. Raises NotFound, NotYetUploaded, 502 `M_TOO_LARGE`, or another MatrixError."""


class NoElsewhere:
    """For a server that keeps to itself."""

    async def fetch(self, origin: str, media_id: str, timeout_ms: int) -> Medium:
        raise NotFound("This server has no such file, and asks no other")


@frozen
class Wanted:
    """Which file somebody wants. Raises InvalidParam for what is no address."""

    origin: str
    media_id: str
    timeout_ms: int = DEFAULT_WAIT_MS
    """How long to wait for one that is not uploaded yet."""
    may_fetch: bool = True
    """Whether another server may be asked for it."""
    only_open: bool = False
    """Only what anybody may have: whoever asks has shown no token."""

    def __attrs_post_init__(self) -> None:
        check_address(self.origin, self.media_id)


class Manner(msgspec.Struct, frozen=True):
    """How it shall be sent: the headers of the request that bear on it."""

    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None
    may_redirect: bool = True


class Stored(msgspec.Struct, frozen=True):
    """A file in the store, and how it goes out."""

    file: str
    size_bytes: int
    etag: str
    headers: Mapping[str, str]


@define(eq=False)
class Downloads:
    """Finds files and makes answers of them. `served_files` counts since the start."""

    library: Library
    _arrivals: Arrivals
    _elsewhere: Elsewhere
    served_files: int = field(default=0, init=False)

    async def find(self, wanted: Wanted) -> Medium:
        """A file that is here, and that may be given out; fetched from where it is, if need be.

        Raises NotFound, NotYetUploaded, and whatever fetching raises.
        """
        medium = await self.library.find(wanted.origin, wanted.media_id)
        if wanted.origin == self.library.server_name:
            medium = await self._find_here(medium, wanted)
        elif _is_missing(medium) and wanted.may_fetch and not wanted.only_open:
            # What nobody fetched before is new, so without a token it can't be had: it is not even asked for.
            medium = await self._elsewhere.fetch(wanted.origin, wanted.media_id, wanted.timeout_ms)
        if (
            medium is None
            or medium.file is None
            or medium.quarantined_by is not None
            or (wanted.only_open and not medium.is_open)
        ):
            raise NotFound("There is no such file")
        self.library.note_use(medium)
        return medium

    async def answer(self, medium: Medium, manner: Manner, name: str | None = None) -> Reply:
        """The file itself. `name` stands in place of its own. Raises as `send`; NotFound where its bytes are lost."""
        try:
            reply = await self.send(self.stored(medium, name), manner)
        except NotStored:
            await self.lost(medium)
            raise NotFound("There is no such file any more") from None
        self.served_files += 1
        return reply

    def stored(self, medium: Medium, name: str | None = None) -> Stored:
        """Where a file is, and how it goes out."""
        assert medium.file is not None
        etag = etag_of(medium.file)
        headers = headers_of_file(medium.type, name or medium.name, etag=etag)
        return Stored(medium.file, medium.size_bytes, etag, headers)

    async def send(self, stored: Stored, manner: Manner) -> Reply:
        """A file as a whole, a part of it, a word that it has not changed, or where else it is.

        Raises `BadRange`, NotStored, Unavailable.
        """
        if is_known(manner.if_none_match, stored.etag):
            return Reply(304, b"", stored.headers)
        store = self.library.store
        if manner.may_redirect and (address := store.address(stored.file, stored.headers)) is not None:
            return Reply(307, b"", {"Location": address, "Content-Type": stored.headers["Content-Type"]})
        part = wanted_part(manner.range, manner.if_range, stored.etag, stored.size_bytes)
        if part is None:
            source = await self.library.read(stored.file, 0, stored.size_bytes)
            return Reply(200, headers=stored.headers, source=source)
        source = await self.library.read(stored.file, part.start, part.length)
        return Reply(206, headers={**stored.headers, "Content-Range": part.content_range}, source=source)

    async def lost(self, medium: Medium) -> None:
        """The bytes of a file are not where they should be."""
        if medium.origin == self.library.server_name:
            _log.error("a file is not in the store", media_id=medium.media_id, file=medium.file)
        else:
            await self.library.forget([medium.key])  # it can be fetched again, by whoever asks next

    async def _find_here(self, medium: Medium | None, wanted: Wanted) -> Medium | None:
        """One of ours, for which whoever asks may wait a little."""
        if medium is None or medium.expires_ts is None:
            return medium
        if medium.expires_ts <= self.library.clock.now_ms():
            return None
        key = medium.key
        await self._arrivals.wait(key, wanted.timeout_ms)
        medium = await self.library.find(*key)
        if medium is not None and medium.expires_ts is not None:
            raise NotYetUploaded()
        return medium


def etag_of(file: str) -> str:
    """A strong one: a stored file is never changed, and its name was never another's."""
    return f'"{file.rpartition("/")[2]}"'


def _is_missing(medium: Medium | None) -> bool:
    """Whether it is worth asking for: of some files only thumbnails are here, and some shall not come."""
    return medium is None or (medium.file is None and medium.quarantined_by is None)

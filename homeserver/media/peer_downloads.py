"""Files as other servers get them: with something before and after the bytes, and still only read where asked for.

Spec: https://spec.matrix.org/v1.19/server-server-api/#content-repository
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from attrs import define, field

from federation.service import service
from federation.wire.multipart import after_file, before_file
from homeserver.errors import NotFound
from homeserver.http.bodies import Source
from homeserver.http.route import Reply
from homeserver.media.downloads import Downloads, Manner, Stored, Wanted
from homeserver.media.library import Library
from homeserver.media.ranges import wanted_part
from homeserver.media.store.port import NotStored
from homeserver.media.thumbnails import Shape, Thumbnails


@define(eq=False)
class Framed:
    """Implements `Source`: some bytes, a file or a piece of it, some bytes."""

    _before: bytes
    _file: Source | None
    _after: bytes
    length: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        size = 0 if self._file is None else self._file.length
        assert size is not None, "a file's length is known"
        self.length = len(self._before) + size + len(self._after)

    async def read(self) -> bytes:
        if self._before:
            before, self._before = self._before, b""
            return before
        if self._file is not None:
            piece = await self._file.read()
            if piece:
                return piece
            self._file.close()
            self._file = None
        after, self._after = self._after, b""
        return after

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@define(eq=False)
class Frame:
    """What stands around a file of known size, of which any part can be made."""

    boundary: str
    _headers: Mapping[str, str]
    """Of the file."""
    _size_bytes: int
    _before: bytes = field(init=False)
    _after: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._before = before_file(self.boundary, self._headers)
        self._after = after_file(self.boundary)

    @property
    def length(self) -> int:
        return len(self._before) + self._size_bytes + len(self._after)

    async def part(self, start: int, length: int, read: Callable[[int, int], Awaitable[Source]]) -> Framed:
        """Bytes `start` to `start + length` of the whole; `read(start, length)` gives those of the file."""
        end = start + length
        file_at = len(self._before)
        first, last = max(start, file_at), min(end, file_at + self._size_bytes)
        file = await read(first - file_at, last - first) if last > first else None
        after_at = file_at + self._size_bytes
        return Framed(self._before[start:end], file, self._after[max(0, start - after_at) : max(0, end - after_at)])


def boundary_for(stored: Stored) -> str:
    """The same for the same file, so that a part of the whole means something; and nobody can have put it into the
    file, because it depends on all of it."""
    return f"guildhall-{stored.etag.strip(chr(34))}"


@service
class PeerDownloads:
    """Gives files of this server to others."""

    _library: Library
    _downloads: Downloads
    _thumbnails: Thumbnails

    async def download(self, wanted: Wanted, manner: Manner) -> Reply:
        """Raises as `Downloads.find` and `Downloads.answer` do."""
        medium = await self._downloads.find(wanted)
        return await self._framed(self._downloads.stored(medium), manner)

    async def thumbnail(self, wanted: Wanted, shape: Shape, manner: Manner) -> Reply:
        """Raises as `Thumbnails.answer` does."""
        return await self._framed(await self._thumbnails.find(wanted, shape), manner)

    async def _framed(self, stored: Stored, manner: Manner) -> Reply:
        boundary = boundary_for(stored)
        headers = {
            # COMPAT Synapse: takes quotes for a part of the boundary, and finds no file then.
            "Content-Type": f"multipart/mixed; boundary={boundary}",
            "ETag": stored.etag,
            "Accept-Ranges": "bytes",
        }
        address = self._library.store.address(stored.file, stored.headers)
        if address is not None:
            return Reply(200, before_file(boundary, {"Location": address}) + after_file(boundary), headers)
        about = {name: stored.headers[name] for name in ("Content-Type", "Content-Disposition")}
        frame = Frame(boundary, about, stored.size_bytes)
        part = wanted_part(manner.range, manner.if_range, stored.etag, frame.length)
        start, length = (0, frame.length) if part is None else (part.start, part.length)
        try:
            source = await frame.part(start, length, partial(self._library.read, stored.file))
        except NotStored:
            raise NotFound("There is no such file any more") from None
        if part is None:
            return Reply(200, headers=headers, source=source)
        return Reply(206, headers={**headers, "Content-Range": part.content_range}, source=source)

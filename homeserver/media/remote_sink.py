"""What another server sends when it is asked for a file: taken apart as it comes, with its bytes into a draft."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import define, field

from federation.outbound.transport import BadAnswer
from federation.wire.multipart import MAX_ABOUT, BadMultipart, MultipartReader, boundary_of
from homeserver.media.draft import Draft
from homeserver.media.library import Library
from homeserver.media.sinks import DraftSink

SPARE_BYTES = MAX_ABOUT + 4096
"""What may stand around a file."""

_FROM = re.compile(r"bytes ([0-9]{1,18})-")


class TooMuch(Exception):
    """The file is larger than wanted."""


@define(eq=False)
class FileSink:
    """Implements `federation.outbound.transport.Sink`.

    First come two parts, unless the peer is one of old; where those say that it is elsewhere, the file by itself.
    """

    _library: Library
    _draft: Draft
    _most_bytes: int
    _in_parts: bool = True
    file_headers: Mapping[str, str] = field(factory=dict, init=False)
    """What is said of the file, by name in lower case."""
    _inner: DraftSink = field(init=False)
    _parts: MultipartReader | None = field(default=None, init=False)
    _etag: str | None = field(default=None, init=False)
    """Of an answer of which the rest can be asked for."""
    _received: int = field(default=0, init=False)
    """Bytes of the answer's body."""
    _written: int = field(default=0, init=False)
    """Bytes of the file."""
    _skip: int = field(default=0, init=False)
    """What comes a second time."""

    def __attrs_post_init__(self) -> None:
        self._inner = DraftSink(self._library, self._draft)

    def begin(self, headers: Mapping[str, str]) -> None:
        if self._received:
            self._go_on(headers)
            return
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most_bytes + SPARE_BYTES:
            raise TooMuch
        if headers.get("accept-ranges", "").lower() == "bytes":
            self._etag = headers.get("etag")
        if not self._in_parts:
            self.file_headers = headers
            return
        try:
            self._parts = MultipartReader(boundary_of(headers.get("content-type", "")))
        except BadMultipart as error:
            raise BadAnswer("", str(error)) from None

    async def write(self, data: bytes) -> None:
        if self._skip:
            known = min(self._skip, len(data))
            self._skip -= known
            data = data[known:]
        self._received += len(data)
        if self._parts is not None:
            try:
                data = self._parts.feed(data)
            except BadMultipart as error:
                raise BadAnswer("", str(error)) from None
        self._written += len(data)
        if self._written > self._most_bytes:
            raise TooMuch
        if data:
            await self._inner.write(data)

    def rest(self) -> Mapping[str, str] | None:
        """Headers that ask for what is still missing; None where the peer can't be asked for a part."""
        if not self._received or self._etag is None or not self._etag.startswith('"'):
            return None
        return {"Range": f"bytes={self._received}-", "If-Range": self._etag}

    def end(self) -> str | None:
        """The answer is complete: where the file is instead, if that is what it says. Raises BadAnswer."""
        if self._parts is None:
            return None
        if not self._parts.complete or self._parts.file_headers is None:
            raise BadAnswer("", "its body ends too early")
        self.file_headers = self._parts.file_headers
        location = self.file_headers.get("location")
        if location is not None:
            if self._written:
                raise BadAnswer("", "it gives a file, and says that it is somewhere else")
            # What comes next is the file by itself, from there.
            self._parts, self._in_parts, self._etag, self._received = None, False, None, 0
        return location

    async def flush(self) -> None:
        """Write what is held."""
        await self._inner.flush()

    def _go_on(self, headers: Mapping[str, str]) -> None:
        """The same answer for the second time: the rest of it, or all of it again."""
        if headers.get("etag") != self._etag:
            raise BadAnswer("", "it has become another file meanwhile")
        match = _FROM.match(headers.get("content-range", ""))
        start = int(match[1]) if match else 0
        if start > self._received:
            raise BadAnswer("", "it gives another part than the one that it was asked for")
        self._skip = self._received - start

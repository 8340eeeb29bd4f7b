"""`multipart/mixed` with two parts, as servers give files to each other: something about the file, and the file.

    --boundary                              --boundary
    Content-Type: application/json          Content-Type: application/json

    {}                                      {}
    --boundary                              --boundary
    Content-Type: image/png                 Location: https://cdn.example.org/…

    …the file…                              --boundary--
    --boundary--

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid
and RFC 2046, section 5.1
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

MAX_HEAD = 16 * 1024
"""Bytes of one part's headers."""
MAX_ABOUT = 64 * 1024
"""Bytes of what stands before the file: a preamble, and the part about the file."""

_BOUNDARY = re.compile(r"""(?:^|;)\s*boundary\s*=\s*(?:"([^"\\]*)"|([^\s;"]*))""", re.IGNORECASE)
_CHARACTERS = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")


class BadMultipart(ValueError):
    """What came is not such a body. The message says why."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a `Content-Type` header states. Raises `BadMultipart`."""
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() != "multipart/mixed":
        raise BadMultipart("its content type is not multipart/mixed")
    match = _BOUNDARY.search(parameters)
    boundary = (match[1] or match[2] or "") if match else ""
    if not _CHARACTERS.fullmatch(boundary) or boundary.endswith(" "):
        raise BadMultipart("its content type states no boundary")
    return boundary.encode("ascii")


def before_file(boundary: str, headers: Mapping[str, str]) -> bytes:
    """All that comes before the file's bytes. Without any, and with `Location` among the headers, it is a redirect."""
    lines = [f"--{boundary}", "Content-Type: application/json", "", "{}", f"--{boundary}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def after_file(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode("ascii")


class _At(Enum):
    PREAMBLE = 1
    ABOUT_HEAD = 2
    ABOUT = 3
    FILE_HEAD = 4
    FILE = 5
    END = 6


class MultipartReader:
    """Reads such a body as it comes, and gives out the file."""

    def __init__(self, boundary: bytes) -> None:
        self.file_headers: Mapping[str, str] | None = None
        """Of the second part, by name in lower case, as latin-1; None until they have come."""
        self._mark = b"\r\n--" + boundary
        self._at = _At.PREAMBLE
        self._buffer = b"\r\n"  # so that the first line may be a boundary too
        self._about_left = MAX_ABOUT
        self._lead = 2
        """How much of the buffer is still the line break between a part's headers and its body."""

    @property
    def complete(self) -> bool:
        return self._at is _At.END

    def feed(self, data: bytes) -> bytes:
        """Take what came; what of it is the file's. Raises `BadMultipart`."""
        if self._at is not _At.FILE:
            self._about_left -= len(data)
        self._buffer += data
        file = b""
        while True:
            match self._at:
                case _At.PREAMBLE:
                    done = self._skip_part(_At.ABOUT_HEAD)
                case _At.ABOUT_HEAD:
                    done = self._read_head() is not None and self._go(_At.ABOUT)
                case _At.ABOUT:
                    done = self._skip_part(_At.FILE_HEAD)
                case _At.FILE_HEAD:
                    head = self._read_head()
                    done = head is not None
                    if head is not None:
                        self.file_headers = head
                        self._at = _At.FILE
                case _At.FILE:
                    more, done = self._read_file()
                    file += more
                case _At.END:
                    self._buffer = b""  # an epilogue says nothing
                    return file
            if not done:
                return file

    def _go(self, at: _At) -> bool:
        self._at = at
        return True

    def _skip_part(self, following: _At) -> bool:
        """Pass over what stands before the next boundary, which must be followed by another part."""
        end = self._buffer.find(self._mark)
        if end < 0:
            if self._about_left < 0:
                raise BadMultipart("there is too much before the file")
            return False
        rest = self._buffer[end + len(self._mark) :]
        line, crlf, rest = rest.partition(b"\r\n")
        if not crlf:
            if len(line) > MAX_HEAD:
                raise BadMultipart("a boundary does not end")
            return False
        if line.strip(b" \t"):
            raise BadMultipart("it has less than two parts, or its boundary is the beginning of another word")
        # What follows are headers, of which there may be none: then the empty line comes at once.
        self._buffer = b"\r\n" + rest
        return self._go(following)

    def _read_head(self) -> Mapping[str, str] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD:
            if len(self._buffer) > MAX_HEAD:
                raise BadMultipart("a part's headers are too long")
            return None
        lines = self._buffer[2:end].split(b"\r\n") if end > 0 else []
        # The empty line's break stays: it may be the one that a boundary begins with, where there is nothing between.
        self._buffer = self._buffer[end + 2 :]
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise BadMultipart("a header of a part is malformed")
            headers.setdefault(name.strip().decode("latin-1").lower(), value.strip().decode("latin-1"))
        return headers

    def _read_file(self) -> tuple[bytes, bool]:
        """What is certainly the file's, and whether its end has come."""
        end = self._buffer.find(self._mark)
        if end < 0:
            sure = len(self._buffer) - len(self._mark) + 1
            if sure <= self._lead:
                return b"", False
            file, self._buffer = self._buffer[self._lead : sure], self._buffer[sure:]
            self._lead = 0
            return file, False
        rest = self._buffer[end + len(self._mark) :]
        if len(rest) < 2:
            return b"", False
        if not rest.startswith(b"--"):
            raise BadMultipart("there is more in it than a file, or its boundary is in the file")
        self._at = _At.END
        return self._buffer[self._lead : end], True

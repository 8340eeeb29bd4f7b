"""Asking for a part of a file, or only for news of it.

Spec: RFC 9110, sections 13 and 14
"""

from __future__ import annotations

import re

import msgspec

from homeserver.errors import MatrixError

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})[ \t]*-[ \t]*([0-9]{0,18})[ \t]*")


class BadRange(MatrixError):
    """416: nothing of what was asked for is there."""

    def __init__(self, size: int) -> None:
        headers = {"Content-Range": f"bytes */{size}"}
        super().__init__(
            416, "M_UNKNOWN", f"The range lies outside of the {size} bytes that there are", headers=headers
        )


class Part(msgspec.Struct, frozen=True):
    """Bytes `start` to `start + length` of a file of `size` bytes."""

    start: int
    length: int
    size: int

    @property
    def is_whole(self) -> bool:
        return self.length == self.size

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether whoever asks has it already."""
    if if_none_match is None:
        return False
    known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in known or known == ["*"]


def wanted_part(wanted: str | None, if_range: str | None, etag: str, size: int) -> Part | None:
    """The part that is asked for; None where it is the whole file.

    Several ranges at once are answered by the whole, as a server may do. Raises `BadRange`.
    """
    if wanted is None or (if_range is not None and if_range.strip() != etag):
        return None
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":  # the last so many
        length = min(int(match[2]), size)
        if not length:
            raise BadRange(size)
        return Part(size - length, length, size)
    start = int(match[1])
    end = size - 1 if match[2] == "" else min(int(match[2]), size - 1)
    if match[2] != "" and int(match[2]) < start:
        return None  # no range at all
    if start >= size:
        raise BadRange(size)
    return Part(start, end - start + 1, size)

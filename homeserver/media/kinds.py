"""What kind of file something is: by what its sender says, and by its first bytes.

Spec: https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content
"""

from __future__ import annotations

from collections.abc import Sequence

from config import TypeLimit

OCTETS = "application/octet-stream"
HEAD_BYTES = 8192
"""How much of a file's beginning is looked at."""

SAFE_INLINE = frozenset(
    {
        "text/css", "text/plain", "text/csv", "application/json", "application/ld+json", "image/jpeg", "image/gif",
        "image/png", "image/apng", "image/webp", "image/avif", "video/mp4", "video/webm", "video/ogg",
        "video/quicktime", "audio/mp4", "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg", "audio/wave",
        "audio/wav", "audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac",
    }
)  # fmt: skip
"""What browsers only show, whatever is in it."""

PICTURES = frozenset({"image/jpeg", "image/png", "image/apng", "image/gif", "image/webp", "image/avif", "image/bmp"})
"""Pictures that everybody has: what claims to be one and is not even a picture is encrypted, or a lie."""

MAX_TYPE_CHARACTERS = 255
MAX_NAME_CHARACTERS = 1024


def essence(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def clean_type(content_type: str | None) -> str:
    """A content type as it is kept: one that could not stand in a header is none."""
    text = (content_type or "").strip()
    if not text or len(text) > MAX_TYPE_CHARACTERS or not (text.isascii() and text.isprintable()):
        return OCTETS
    major, slash, minor = essence(text).partition("/")
    return text if major and slash and minor and not set(" /,") & set(major + minor) else OCTETS


def clean_name(name: str | None) -> str | None:
    """A file name as it is kept."""
    if not name:
        return None
    return "".join(letter for letter in name if letter >= " " and letter != "\x7f")[:MAX_NAME_CHARACTERS] or None


def sniff(head: bytes) -> str | None:
    """The type that a file has by its first bytes; None for what has no mark of its own, such as text."""
    import filetype

    found = filetype.guess_mime(head[:HEAD_BYTES])
    return str(found) if found is not None else None


def served_type(stated: str, sniffed: str | None) -> str:
    """Which type a file is given out as: the stated one, unless it says picture and there is none in sight."""
    if essence(stated) in PICTURES and (sniffed is None or not sniffed.startswith("image/")):
        return OCTETS
    return stated


def is_inline(content_type: str) -> bool:
    """Whether browsers may show a file of this type in place."""
    return essence(content_type) in SAFE_INLINE


def limit_of(limits: Sequence[TypeLimit], content_type: str) -> int | None:
    """How large a file of this type may be; None where no limit names it."""
    kind = essence(content_type)
    matching = [
        one.max_bytes
        for one in limits
        if one.type == kind or (one.type.endswith("/*") and kind.startswith(one.type[:-1]))
    ]
    return min(matching, default=None)

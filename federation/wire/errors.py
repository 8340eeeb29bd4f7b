"""The error that a peer's answer carries.

Spec: https://spec.matrix.org/v1.19/client-server-api/#standard-error-response
"""

from __future__ import annotations

import msgspec

MAX_TEXT = 500
"""Characters of a peer's text that are worth keeping in our logs."""
MOST_HARMS = 20


class _Body(msgspec.Struct, frozen=True):
    errcode: object = None
    error: object = None
    retry_after_ms: object = None
    harms: object = None
    expiry: object = None
    room_version: object = None


class ErrorBody(msgspec.Struct, frozen=True):
    """What of an error's body can be used: anything that is missing or wrong there is empty here."""

    errcode: str = ""
    error: str = ""
    retry_after_ms: int | None = None
    harms: tuple[str, ...] = ()
    """What something was refused for (MSC4387)."""
    expiry: int | None = None
    """From when on that may be otherwise, in ms since 1970."""
    room_version: str = ""
    """Of a room whose version is what the error is about."""


_decode = msgspec.json.Decoder(_Body).decode


def read_error(body: bytes, retry_after: str | None = None) -> ErrorBody:
    """Read the body of an error, and the `Retry-After` header in seconds; never raises, as it only explains."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = _Body()
    milliseconds = found.retry_after_ms if type(found.retry_after_ms) is int else None
    if milliseconds is None and retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        milliseconds = int(retry_after[:9]) * 1000
    return ErrorBody(
        found.errcode[:MAX_TEXT] if isinstance(found.errcode, str) else "",
        found.error[:MAX_TEXT] if isinstance(found.error, str) else "",
        max(0, milliseconds) if milliseconds is not None else None,
        _harms(found.harms),
        found.expiry if type(found.expiry) is int and 0 < found.expiry < 2**53 else None,
        found.room_version[:MAX_TEXT] if isinstance(found.room_version, str) else "",
    )


def _harms(given: object) -> tuple[str, ...]:
    if not isinstance(given, list):
        return ()
    return tuple(one for one in given[:MOST_HARMS] if isinstance(one, str) and len(one) <= MAX_TEXT)

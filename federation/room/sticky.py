"""Sticky events: messages that a server brings to everybody in a room for a while, whenever they come.

An event says so beside its content, `"msc4354_sticky":{"duration_ms":…}`; a redaction takes that away with the content.

MSC4354: https://github.com/matrix-org/matrix-spec-proposals/pull/4354
"""

from __future__ import annotations

import msgspec

from federation.room.event import Event

STICKY = "msc4354_sticky"

LONGEST_MS = 60 * 60 * 1000
"""However long an event says that it sticks."""

_MARK = b'"msc4354_sticky":'


class _Sticky(msgspec.Struct, gc=False):
    duration_ms: int | float


class _Raw(msgspec.Struct, gc=False):
    msc4354_sticky: _Sticky | None = None


def sticky_ms(event: Event) -> int | None:
    """For how long an event sticks; None for those that do not, or say it in no proper form."""
    if _MARK not in event.raw:
        return None
    try:
        told = _decode(event.raw).msc4354_sticky
    except msgspec.ValidationError:
        return None
    if told is None or not isinstance(told.duration_ms, int) or told.duration_ms < 0:
        return None
    return min(told.duration_ms, LONGEST_MS)


def sticks_until(event: Event, received_ts: int) -> int | None:
    """When (ms since 1970) an event that came then no longer sticks. What it says of its own time counts only where
    that is earlier, or it could stick for ever.
    """
    duration = sticky_ms(event)
    return None if duration is None else min(event.origin_server_ts, received_ts) + duration


_decode = msgspec.json.Decoder(_Raw).decode

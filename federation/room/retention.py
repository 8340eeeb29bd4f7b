"""For how long messages are meant to be kept: what rooms say of it, and what messages say of themselves.

MSC1763: https://github.com/matrix-org/matrix-spec-proposals/pull/1763 (`m.room.retention`)
MSC2228: https://github.com/matrix-org/matrix-spec-proposals/pull/2228 (messages with an end of their own)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from federation.room.event import Event

RETENTION_TYPES = ("m.room.retention", "org.matrix.msc1763.retention")
"""State with an empty key; the first that is there counts."""

ENDS = ("m.self_destruct_after", "org.matrix.self_destruct_after")
"""In the content of a message, in the clear also where the rest is encrypted: when it is over, in ms since 1970."""

LASTS = ("m.self_destruct", "org.matrix.self_destruct")
"""The same: for how long it stays, in ms, once everybody has read it."""

_MARK = b"self_destruct"

LONGEST_MS = 2**31 - 1
"""That a message may stay once it is read. As a time that would be in January 1970, so whoever says so little in one of
`ENDS` means a while, too.
"""
LATEST_MS = 2**53


def lifetime_ms(content: Mapping[str, Any]) -> int | None:
    """For how long a room wants its messages to live; None where it does not say, or makes no sense."""
    longest, shortest = _time(content.get("max_lifetime")), _time(content.get("min_lifetime"))
    return None if longest is not None and shortest is not None and shortest > longest else longest


def ends_at(event: Event) -> int | None:
    """When a message is over by its own word (ms since 1970); None for most, and for all that is state."""
    return next((told for told in _told(event, ENDS) if told > LONGEST_MS), None)


def lasts_ms(event: Event) -> int | None:
    """For how long a message stays once everybody has read it; None where it does not go by that."""
    return next((told for told in _told(event, (*LASTS, *ENDS)) if told <= LONGEST_MS), None)


def _told(event: Event, names: Sequence[str]) -> list[int]:
    if _MARK not in event.raw or event.state_key is not None:
        return []
    content = event.content
    return [told for name in names if (told := _time(content.get(name))) is not None]


def _time(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < LATEST_MS else None

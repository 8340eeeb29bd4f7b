"""How much anybody may ask of the server at once."""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting


@frozen(kw_only=True)
class Limits:
    """How much anybody may ask of the server at once."""

    max_sync_timeout_ms: int = setting(
        10 * 60 * 1000, doc="The longest that a /sync request is kept waiting, whatever it asks for.", check=at_least(0)
    )
    max_event_delay_ms: int = setting(
        24 * 3600 * 1000,
        doc="The longest that somebody may have an event wait before it is sent.",
        check=at_least(1000),
    )
    max_schedule_ms: int = setting(
        366 * 24 * 3600 * 1000,
        doc="How far ahead somebody may schedule a message.",
        check=at_least(1000),
    )
    max_delayed_events: int = setting(100, doc="How many of one person's events may wait at a time.", check=at_least(0))

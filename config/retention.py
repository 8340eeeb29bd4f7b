"""For how long messages are kept."""

from __future__ import annotations

from attrs import frozen

from config.field import BadSetting, at_least, setting

MINUTE_MS = 60 * 1000


@frozen(kw_only=True)
class Retention:
    """For how long messages are kept. What is over is gone for good: from the database, the search and the files."""

    enabled: bool = setting(
        True,
        doc="Whether rooms may say for how long their messages live (m.room.retention), and messages when they are "
        "over. Off, everything stays.",
    )
    default_ms: int | None = setting(
        None,
        doc="For how long messages live in rooms that do not say so themselves. Empty: for ever.",
        check=at_least(MINUTE_MS),
    )
    shortest_ms: int = setting(
        60 * MINUTE_MS,
        doc="Where a room wishes for less, its messages live for as long as this.",
        check=at_least(MINUTE_MS),
    )
    longest_ms: int | None = setting(
        None, doc="Where a room wishes for more, for as long as this. Empty: as it wishes.", check=at_least(MINUTE_MS)
    )

    def __attrs_post_init__(self) -> None:
        if self.longest_ms is not None and self.longest_ms < self.shortest_ms:
            raise BadSetting("longest_ms", "must not be less than shortest_ms")

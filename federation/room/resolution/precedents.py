"""What earlier resolutions found out about events, for the next one in the same room.

Forks that grow apart are resolved again with each event, and all but one of the events were heard before. What an
event cites, what it asks the state for and what follows from the answers never change: an event is known by its id.
That is so as long as none of them is redacted; whoever has some that are must do without.
"""

from __future__ import annotations

import msgspec

from federation.room.event import StateKey

MOST = 10_000
"""Judgements that are remembered; beyond that all are forgotten."""


class Precedents(msgspec.Struct, eq=False):
    """Of one room."""

    asked_for: dict[str, tuple[StateKey, ...]] = msgspec.field(default_factory=dict)
    """Event id → the state by which it is judged, besides the create event."""
    verdicts: dict[tuple[str | None, ...], bool] = msgspec.field(default_factory=dict)
    """Event id and the ids of what the state held for `asked_for` → whether it is allowed."""
    power_of_sender: dict[str, float] = msgspec.field(default_factory=dict)
    """Event id → the power of who sent it, by what it cites."""

    def trim(self) -> None:
        """Keep within bounds."""
        if len(self.verdicts) > MOST:
            for memory in (self.asked_for, self.verdicts, self.power_of_sender):
                memory.clear()

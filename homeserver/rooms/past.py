"""What this server lacks of a room, as readers ask for it; `homeserver.rooms.remote.backfill` gets it from peers."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from homeserver.rooms.live import LiveRoom
from storage.gaps import Gap


class Moment(msgspec.Struct, frozen=True):
    """A time that somebody wants to see, and which way to look from there."""

    ts: int
    """In ms."""
    backwards: bool

    @property
    def direction(self) -> Literal["f", "b"]:
        return "b" if self.backwards else "f"

    def is_closer(self, ts: int, than_ms: int | None) -> bool:
        """Whether an event of that time lies in the right direction, and closer than so much; None: at all."""
        distance_ms = self.ts - ts if self.backwards else ts - self.ts
        return distance_ms >= 0 and (than_ms is None or distance_ms < than_ms)


class Past(Protocol):
    """Gets what this server lacks of a room."""

    def can_extend(self, room: LiveRoom, gap: Gap) -> bool:
        """Whether something in a gap might be had now."""

    async def extend(self, room: LiveRoom, gap: Gap) -> bool:
        """Fetch a piece of what is missing in a gap, what comes last in it first. False if nothing came of that."""

    async def reach(self, room: LiveRoom, gap: Gap, moment: Moment, closer_than_ms: int | None) -> bool:
        """Fetch an event from within a gap that is closer to a moment. False if nobody has one that can be had."""


class NoPast:
    """For a server that does not federate: it has everything."""

    def can_extend(self, room: LiveRoom, gap: Gap) -> bool:
        return False

    async def extend(self, room: LiveRoom, gap: Gap) -> bool:
        return False

    async def reach(self, room: LiveRoom, gap: Gap, moment: Moment, closer_than_ms: int | None) -> bool:
        return False

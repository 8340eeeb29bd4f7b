"""How a room's state changed over a span of the stream, for every way of syncing."""

from __future__ import annotations

from homeserver.rooms.live import LiveRoom
from homeserver.sync.timeline import Span
from storage import spans
from storage.database import Database
from storage.spans import StateStep


async def state_steps(database: Database, room: LiveRoom, span: Span) -> list[StateStep]:
    """The changes after the span's start, up to its end: from the room's memory where that reaches back so far."""
    if room.window_floor <= span.after:
        return [
            (entry.position, change.key, 0 if change.new is None else change.new.nid)
            for entry in room.window
            if span.after < entry.position <= span.upto
            for change in entry.changes
        ]
    return await database.run(spans.state_steps, room.nid, span.after, span.upto)

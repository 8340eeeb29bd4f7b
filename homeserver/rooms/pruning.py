"""Taking away what was said from this server's copy of a room, without a redaction that others would hear of."""

from __future__ import annotations

from collections.abc import Sequence

from federation.room.redaction import redact_event
from federation.room.versions import RoomVersion
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.streams.hub import Hub
from storage import events as event_rows
from storage.database import Database
from storage.ports import Cursor, StoredEvent


async def prune(
    database: Database, events: EventCache, hub: Hub, room: LiveRoom, targets: Sequence[StoredEvent], redacted_by: int
) -> None:
    """Put the redacted forms of a room's events in their places, on disk and in memory. Durable when it answers.

    `redacted_by`: the nid of the event that has it so; 0 where there is none.
    """
    await database.write(_prune, room.version, targets, redacted_by)
    events.forget(stored.nid for stored in targets)
    room.forget_window(hub.position)


def _prune(cursor: Cursor, version: RoomVersion, targets: Sequence[StoredEvent], redacted_by: int) -> None:
    for stored in targets:
        event_rows.apply_redaction(cursor, stored.nid, redact_event(version, stored.event).raw, redacted_by)

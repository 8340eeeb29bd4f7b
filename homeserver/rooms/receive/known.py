"""Finding events by id: most that a new event cites are in memory, in the room's state or among its newest."""

from __future__ import annotations

from collections.abc import Collection

from federation.room.auth import auth_types_of
from federation.room.event import Event
from federation.service import service
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from storage import events as event_rows
from storage.database import Database
from storage.ports import Cursor, StoredEvent


@service
class KnownEvents:
    """Looks events up by id."""

    database: Database
    events: EventCache

    async def find(self, room: LiveRoom, event_ids: Collection[str]) -> dict[str, StoredEvent]:
        """Those that this server has, outliers and rejected ones too. Events of other rooms are found as well."""
        found = self._in_memory(room, event_ids)
        missing = [event_id for event_id in event_ids if event_id not in found]
        if missing:
            if room.queued:
                await self.database.write(_nothing)
            found.update(await self.database.run(event_rows.load_by_ids, missing))
        return found

    async def ids(self, room: LiveRoom, event_ids: Collection[str]) -> set[str]:
        """Which of these events this server has, without reading them."""
        if room.queued:
            await self.database.write(_nothing)
        return set(await self.database.run(event_rows.find_nids, list(dict.fromkeys(event_ids))))

    async def cited(self, room: LiveRoom, event: Event) -> dict[str, StoredEvent]:
        """The auth events that this server has."""
        found: dict[str, StoredEvent] = {}
        for key in auth_types_of(room.version, event):
            ref = room.standing.state.get(key)
            if ref is not None and ref.event_id in event.auth_events:
                stored = room.unwritten.get(ref.nid) or self.events.peek(ref.nid)
                if stored is not None:
                    found[ref.event_id] = stored
        missing = [event_id for event_id in event.auth_events if event_id not in found]
        found.update(await self.find(room, missing))
        return found

    def _in_memory(self, room: LiveRoom, event_ids: Collection[str]) -> dict[str, StoredEvent]:
        wanted = set(event_ids)
        found: dict[str, StoredEvent] = {}
        for stored in room.unwritten.values():
            if stored.event.event_id in wanted:
                found[stored.event.event_id] = stored
        if len(found) < len(wanted):
            for entry in reversed(room.window):
                if entry.stored is not None and entry.stored.event.event_id in wanted:
                    found[entry.stored.event.event_id] = entry.stored
        return found


def _nothing(cursor: Cursor) -> None:
    """A write that writes nothing: done when everything queued before it is."""

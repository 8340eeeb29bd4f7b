"""Which events a server may see: by the history visibility at each event, and by who of it was there then.

What it may not see it is given in redacted form, as it needs the graph to be whole.

Spec: https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
and https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field

from federation.room.event import Event
from federation.room.redaction import redact_event
from federation.service import service
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.serve.access import Blurred
from homeserver.rooms.tracing import INVITED, SHARED, WORLD_READABLE, setting_in, setting_of
from storage.database import Database
from storage.ports import Cursor, StoredEvent
from storage.shared import Memory
from storage.visibility import memberships_of_server, setting_at


@service
class PeerView:
    """Filters events for servers, remembering what it read: snapshots never change."""

    database: Database
    _settings: Memory[int, str] = field(factory=lambda: Memory(10_000))
    """Snapshot → history visibility."""
    _present: Memory[tuple[int, str], frozenset[str]] = field(factory=lambda: Memory(10_000))
    """Snapshot and server → its people's memberships."""

    async def of(self, server: str, room: LiveRoom, events: Sequence[StoredEvent]) -> list[Event]:
        """The events as that server may have them, in their order. Raises `Blurred` where this server can't tell."""
        hidden = self._recall(server, events)
        if hidden is None:
            hidden = await self.database.run(self.hidden, server, events)
        if room.blurred and any(stored.nid in hidden and room.is_blurred(stored.position) for stored in events):
            raise Blurred()  # a redacted form would stay for good where the whole event may be due
        return [redact_event(room.version, stored.event) if stored.nid in hidden else stored.event for stored in events]

    def _recall(self, server: str, events: Sequence[StoredEvent]) -> set[int] | None:
        """Nids of what the server may not see, from memory alone; None where that does not do."""
        hidden: set[int] = set()
        for stored in events:
            setting = self._settings.get(stored.before)
            if setting is None:
                return None
            if _is_open(setting, stored):
                continue
            present = self._present.get((stored.after, server))
            if present is None:
                return None
            if not _was_there(setting, present):
                hidden.add(stored.nid)
        return hidden

    def hidden(self, cursor: Cursor, server: str, events: Sequence[StoredEvent]) -> set[int]:
        """Nids of what the server may not see; in a database thread."""
        hidden: set[int] = set()
        for stored in events:
            setting = self._settings.get(stored.before)
            if setting is None:
                setting = setting_of(setting_at(cursor, stored.before)) if stored.before else SHARED
                self._settings.put(stored.before, setting)
            if _is_open(setting, stored):
                continue
            present = self._present.get((stored.after, server))
            if present is None:
                present = frozenset(memberships_of_server(cursor, stored.after, server))
                self._present.put((stored.after, server), present)
            if not _was_there(setting, present):
                hidden.add(stored.nid)
        return hidden


def _is_open(setting: str, stored: StoredEvent) -> bool:
    """Whether every server of the room may see the event. A change of the setting counts by the more open one."""
    event = stored.event
    if (event.type, event.state_key) == ("m.room.history_visibility", "") and setting_in(event) in (
        SHARED,
        WORLD_READABLE,
    ):
        return True
    return setting in (SHARED, WORLD_READABLE)


def _was_there(setting: str, memberships: frozenset[str]) -> bool:
    return "join" in memberships or (setting == INVITED and "invite" in memberships)

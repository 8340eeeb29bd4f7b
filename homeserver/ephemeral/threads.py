"""Which thread an event is in, for receipts that speak of one.

Spec: https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts
"""

from __future__ import annotations

from federation.room.event import Event
from federation.service import service
from homeserver.errors import InvalidParam, NotFound
from homeserver.rooms.events import EventCache
from storage import events as event_rows
from storage.database import Database
from storage.ports import StoredEvent

MAIN = "main"
"""The thread of everything that is in no other. Roots of threads are in it too."""

MAX_HOPS = 3
"""How many relations are followed from an event to one that is itself in a thread."""


@service
class Threads:
    """Finds the thread of an event by its relations."""

    database: Database
    events: EventCache

    async def require_in_thread(self, room_nid: int, event_id: str, thread_id: str) -> None:
        """Raises NotFound where the room has no such event, InvalidParam where it is not in the thread.

        A root counts as in its own thread too, where clients show it, and so does what relates to the root
        (COMPAT Synapse, Complement), though it is in the main timeline. Of a redacted event nothing is left
        that could tell, so it may be in any.
        """
        stored = await self._find(room_nid, event_id)
        if stored is None:
            raise NotFound("There is no such event in this room")
        if thread_id == event_id or stored.redacted_by:
            return
        if thread_id not in await self._threads_of(room_nid, stored):
            raise InvalidParam("The event is not in the thread that `thread_id` names")

    async def _threads_of(self, room_nid: int, stored: StoredEvent) -> set[str]:
        """The event's own thread, or `MAIN` and all that it relates to, any of which may be a root."""
        current = stored
        passed = {MAIN}
        for _ in range(MAX_HOPS + 1):
            relation = relation_of(current.event)
            if relation is None:
                break
            rel_type, parent_id = relation
            if rel_type == "m.thread":
                return {parent_id}
            passed.add(parent_id)
            parent = await self._find(room_nid, parent_id)
            if parent is None:
                break
            current = parent
        return passed

    async def _find(self, room_nid: int, event_id: str) -> StoredEvent | None:
        nid = (await self.database.run(event_rows.find_nids, [event_id])).get(event_id)
        stored = None if nid is None else await self.events.get(nid)
        return stored if stored is not None and stored.room_nid == room_nid and not stored.rejected else None


def relation_of(event: Event) -> tuple[str, str] | None:
    """(type, event id) of what an event relates to, if it does so in the proper form."""
    relation = event.content.get("m.relates_to")
    if isinstance(relation, dict):
        rel_type, parent = relation.get("rel_type"), relation.get("event_id")
        if isinstance(rel_type, str) and isinstance(parent, str):
            return rel_type, parent
    return None

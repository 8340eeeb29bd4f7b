"""What this server's own people may say of other events: no second annotation alike, no thread on a thread.

Between servers nothing of this is enforced; what breaks the rules there is merely not counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import field

from federation.bounded import Bounded
from federation.room.relations import ANNOTATION, THREAD, Relation, may_have_thread, relation_in
from federation.service import service
from homeserver.errors import MatrixError
from homeserver.rooms.compose import Template
from homeserver.rooms.live import LiveRoom
from storage import relations as rows
from storage.database import Database
from storage.events import load_by_ids

T = TypeVar("T")

MOST_ROOTS = 10_000
"""Roots of threads that were looked at, in memory."""

_Annotation = tuple[int, Relation, str, str]
"""Room, what is said of what, by whom, by which type of event."""


@service
class RelationRules:
    """Holds messages against the rules before they are sent."""

    database: Database
    _roots: Bounded[str, int] = field(factory=lambda: Bounded(MOST_ROOTS), init=False)
    """Events that may have threads, and their rooms."""
    _under_way: set[_Annotation] = field(factory=set, init=False)

    async def send(self, room: LiveRoom, template: Template, send: Callable[[], Awaitable[T]]) -> T:
        """Send a message, if its relation is in order. Raises MatrixError where it is not.

        Spec: https://spec.matrix.org/v1.19/client-server-api/#avoiding-duplicate-annotations
        Spec: https://spec.matrix.org/v1.19/client-server-api/#validation-of-mthread-relationships
        """
        relation = relation_in(template.content)
        if relation is None:
            return await send()
        if relation.rel_type == THREAD:
            await self._check_root(room, relation.parent)
        if relation.rel_type != ANNOTATION or relation.key is None:
            return await send()
        annotation = (room.nid, relation, template.sender, template.type)
        # Two at once: neither is in the database yet.
        if annotation in self._under_way:
            raise _duplicate()
        self._under_way.add(annotation)
        try:
            if await self.database.run(
                rows.has_annotated, room.nid, relation.parent, template.sender, template.type, relation.key
            ):
                raise _duplicate()
            return await send()
        finally:
            self._under_way.discard(annotation)

    async def _check_root(self, room: LiveRoom, event_id: str) -> None:
        known = self._roots.get(event_id)
        if known is None:
            stored = (await self.database.run(load_by_ids, [event_id])).get(event_id)
            if stored is None:
                return  # it may be known to others in the room
            if not may_have_thread(stored.event):
                raise MatrixError(400, "M_UNKNOWN", "A thread can't begin at an event that is related to another")
            known = stored.room_nid
            self._roots.put(event_id, known)
        if known != room.nid:
            raise MatrixError(400, "M_UNKNOWN", "The event that the thread begins at is not in this room")


def _duplicate() -> MatrixError:
    return MatrixError(400, "M_DUPLICATE_ANNOTATION", "You have said that of this event already")

"""What became of one message: sent, come to whom, read by whom."""

from __future__ import annotations

import msgspec

from federation.room.event import Event
from federation.room.relations import THREAD, relation_of
from federation.service import service
from homeserver.records.deliveries import Deliveries
from homeserver.rooms.history import History
from storage import deliveries as rows
from storage.database import Database

MOST_PEOPLE = 1_000
"""Of whom one answer tells at most, of each kind."""
MAIN = "main"

Mark = tuple[str, int]
"""Somebody, and when (ms since 1970)."""


class Marks(msgspec.Struct, frozen=True):
    """Of one message."""

    sent_ts: int
    delivered: list[Mark]
    """Local people who were in the room then."""
    read: list[Mark]
    """Anybody who says so in public."""


@service
class MessageMarks:
    """Finds them."""

    database: Database
    history: History
    deliveries: Deliveries

    async def of(self, user_id: str, room_id: str, event_id: str) -> Marks:
        """Of a message that somebody may see. Raises NotFound."""
        found = await self.history.event(room_id, user_id, event_id)
        room, stored = found.room, found.event[0]
        event, position = stored.event, stored.position
        if position == 0:
            return Marks(event.origin_server_ts, [], [])
        read = await self.database.run(rows.readers, room.nid, position, _thread_of(event), MOST_PEOPLE + 1)
        read = [mark for mark in read if mark[0] != event.sender][:MOST_PEOPLE]
        people = sorted(set(room.local_joined) - {event.sender})[:MOST_PEOPLE]
        present = await self.database.run(rows.present_since, room.nid, people, position)
        came = await self.deliveries.of(present, position)
        for reader, ts in read:
            if reader in present:  # whoever read it has got it
                came[reader] = min(ts, came.get(reader, ts))
        # Times of devices are true to a second.
        delivered = [(person, max(ts, stored.received_ts)) for person, ts in sorted(came.items())]
        return Marks(event.origin_server_ts, delivered, read)


def _thread_of(event: Event) -> str:
    """The thread whose receipts speak of an event.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts
    """
    relation = relation_of(event)
    return relation.parent if relation is not None and relation.rel_type == THREAD else MAIN

"""Redactions that wait for what they redact: in which rooms there are any.

They are few. Everybody who takes an event into a room asks here first, so that no other room pays for them.
"""

from __future__ import annotations

from attrs import define, field

from storage import redactions as rows
from storage.database import Database


@define(eq=False)
class AwaitedRedactions:
    """Remembers the rooms; what waits there is in the database (`storage.redactions`)."""

    _database: Database
    _rooms: set[int] | None = field(default=None, init=False)
    """None before anybody looked."""
    _added: set[int] = field(factory=set, init=False)

    def add(self, room_nid: int) -> None:
        """A redaction in this room is about to be written that waits for its target."""
        (self._added if self._rooms is None else self._rooms).add(room_nid)

    async def waits_in(self, room_nid: int) -> bool:
        """Whether one may be waiting in this room."""
        if self._rooms is None:
            found = await self._database.run(rows.rooms_with_pending)
            self._rooms = found | self._added if self._rooms is None else self._rooms | found
        return room_nid in self._rooms

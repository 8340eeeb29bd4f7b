"""The rooms that people are in: asked of the database once for all who want to know, and again when somebody moved."""

from __future__ import annotations

from collections.abc import Collection

from attrs import define, field

from federation.bounded import Bounded
from homeserver.rooms.accept import Accepted
from storage import memberships as rows
from storage.database import Database

MOST_PEOPLE = 5_000


@define(eq=False)
class Whereabouts:
    """An observer of the door (`homeserver.rooms.accept.Observer`)."""

    _database: Database
    _known: Bounded[str, frozenset[int]] = field(factory=lambda: Bounded(MOST_PEOPLE), init=False)
    _moves: int = field(default=0, init=False)
    """Counts everything that may have moved somebody: what was read meanwhile is not kept."""

    async def of(self, user_ids: Collection[str]) -> dict[str, frozenset[int]]:
        """The rooms (nid) of each of some people, as they are now or a moment ago."""
        found = {user_id: rooms for user_id in user_ids if (rooms := self._known.get(user_id)) is not None}
        missing = [user_id for user_id in user_ids if user_id not in found]
        if missing:
            moves = self._moves
            read = await self._database.run(rows.joined_rooms, missing)
            for user_id in missing:
                found[user_id] = read.get(user_id, frozenset())
                if self._moves == moves:
                    self._known.put(user_id, found[user_id])
        return found

    def accepted(self, accepted: Accepted) -> None:
        for change in accepted.all_changes():
            if change.key[0] == "m.room.member":
                self._moves += 1
                self._known.forget(change.key[1])

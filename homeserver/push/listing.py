"""The list of what somebody was told of, newest first.

Spec: https://spec.matrix.org/v1.19/client-server-api/#listing-notifications
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from federation.service import service
from homeserver.ephemeral.threads import MAIN
from homeserver.push.ledger import Ledger, floor
from homeserver.push.people import People
from homeserver.rooms.events import EventCache
from storage import memberships as membership_rows
from storage import push as rows
from storage.database import Database
from storage.memberships import RoomOfUser
from storage.ports import StoredEvent
from storage.push import LogEntry, OwnEntry

LAST = 2**62
MOST_ROUNDS = 20
"""How often is looked for more, where most is not to be shown."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """One entry of the list."""

    stored: StoredEvent
    position: int
    room_id: str
    actions: bytes
    """JSON list."""
    is_read: bool


class Page(msgspec.Struct, frozen=True, gc=False):
    entries: Sequence[Told]
    next_before: int | None
    """None: there is no more."""


@service
class Notifications:
    """Reads the list."""

    database: Database
    events: EventCache
    people: People
    ledger: Ledger

    async def page(self, user_id: str, before: int | None, limit: int, only_highlights: bool) -> Page:
        """At most `limit` entries below a position."""
        await self.ledger.flush()
        rooms = {one.room_nid: one for one in await self.database.run(membership_rows.rooms_of, user_id)}
        found: list[Told] = []
        place: int | None = LAST if before is None else before
        for _ in range(MOST_ROUNDS):
            if place is None or len(found) >= limit:
                break
            wanted = limit - len(found)
            entries, place = await self._read(user_id, rooms, place, wanted, only_highlights)
            found += await self._show(user_id, rooms, entries)
        return Page(found, place)

    async def _read(
        self, user_id: str, rooms: Mapping[int, RoomOfUser], before: int, limit: int, only_highlights: bool
    ) -> tuple[list[LogEntry | OwnEntry], int | None]:
        """What may be shown, and below which position there is more."""
        plain = [
            nid
            for nid, room in rooms.items()
            if room.membership == "join" and self.people.is_plain(user_id, room.room_id)
        ]
        usual = await self.database.run(rows.told_to_all, plain, before, limit, only_highlights)
        own = await self.database.run(rows.told_to, user_id, before, limit, only_highlights)
        # What is behind the end of a full list is not known yet.
        full = [one[-1].position for one in (usual, own) if len(one) == limit]
        end = max(full, default=None)
        entries: dict[int, LogEntry | OwnEntry] = {}
        for entry in usual:
            room, in_thread = rooms[entry.room_nid], entry.thread != MAIN
            if in_thread and not self.people.is_plain(user_id, room.room_id, in_thread=True):
                continue
            if entry.position > max(room.since, self.people.since(user_id, room.room_id, in_thread=in_thread)):
                entries[entry.position] = entry
        for one in own:
            if one.actions == b"[]":
                entries.pop(one.position, None)
            else:
                entries[one.position] = one
        found = [entries[position] for position in sorted(entries, reverse=True) if end is None or position >= end]
        return found, end

    async def _show(
        self, user_id: str, rooms: Mapping[int, RoomOfUser], entries: Sequence[LogEntry | OwnEntry]
    ) -> list[Told]:
        stored = await self.events.get_many([entry.event_nid for entry in entries])
        places = await self.ledger.floors(user_id, sorted({entry.room_nid for entry in entries} & rooms.keys()))
        found = []
        for entry in entries:
            room, event = rooms.get(entry.room_nid), stored.get(entry.event_nid)
            if room is None or event is None or event.event.sender == user_id or event.redacted_by:
                continue
            # Who has left is told of nothing, and who is invited of the invitation.
            is_about_them = event.event.type == "m.room.member" and event.event.state_key == user_id
            if room.membership != "join" and not (room.membership == "invite" and is_about_them):
                continue
            place = places.get(entry.room_nid)
            is_read = place is not None and entry.position <= floor(place, entry.thread)
            found.append(Told(event, entry.position, room.room_id, entry.actions, is_read))
        return found

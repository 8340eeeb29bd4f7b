"""Whose list of devices is here and can be relied on.

A server tells of changes only those with which its person shares a room. So a list is as good as its server's own for
as long as that has been so without a break since it was read, and nothing was missed.

Spec: https://spec.matrix.org/v1.19/server-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from federation.service import service
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from storage import remote_devices as rows
from storage.database import Database
from storage.ports import Cursor
from storage.remote_devices import RemoteList, Stay

MOST_WITNESSES = 50
"""Local members of a room who are asked how long they have been there."""


@service
class KnownLists:
    """Looks."""

    database: Database
    rooms: Rooms

    async def acquainted(self, user_ids: Collection[str]) -> set[str]:
        """Those of other servers' people who share a room with somebody here."""
        stays = await self.database.run(rows.stays_of, user_ids)
        live = await self._inhabited(stay for theirs in stays.values() for stay in theirs)
        return {user_id for user_id, theirs in stays.items() if any(stay.room_nid in live for stay in theirs)}

    async def reliable(self, user_ids: Collection[str]) -> set[str]:
        """Those whose list is what their server would say now, as far as it told."""
        lists, stays = await self.database.run(_read, user_ids)
        good = {user_id: one for user_id, one in lists.items() if not one.missed}
        candidates = {
            user_id: [stay for stay in stays.get(user_id, ()) if stay.since <= one.position]
            for user_id, one in good.items()
        }
        live = await self._inhabited(stay for theirs in candidates.values() for stay in theirs)
        witnesses = {nid: sorted(room.local_joined)[:MOST_WITNESSES] for nid, room in live.items()}
        since = await self.database.run(_since, witnesses) if witnesses else {}
        return {
            user_id
            for user_id, theirs in candidates.items()
            if any(since.get(stay.room_nid, good[user_id].position + 1) <= good[user_id].position for stay in theirs)
        }

    async def _inhabited(self, stays: Iterable[Stay]) -> dict[int, LiveRoom]:
        """The rooms among those in which this server is."""
        live = await self.rooms.get_many({stay.room_nid for stay in stays})
        return {nid: room for nid, room in live.items() if room.local_joined}


# -- in a database thread ------------------------------------------------------------------------------------------


def _read(cursor: Cursor, user_ids: Collection[str]) -> tuple[dict[str, RemoteList], dict[str, list[Stay]]]:
    lists = rows.lists_of(cursor, user_ids)
    return lists, rows.stays_of(cursor, list(lists))


def _since(cursor: Cursor, members: Mapping[int, Sequence[str]]) -> dict[int, int]:
    """Since when somebody of these has been in each room, as far as they know."""
    everybody = {user_id for users in members.values() for user_id in users}
    found: dict[int, int] = {}
    for user_id, stays in rows.stays_of(cursor, everybody).items():
        for stay in stays:
            if user_id in members.get(stay.room_nid, ()):
                found[stay.room_nid] = min(stay.since, found.get(stay.room_nid, stay.since))
    return found

"""Whose devices a client should ask for again, and whose it need not watch any more, between two tokens.

    somebody changed something    ChangeLog, or the table         changed, while they share a room with the reader
    somebody came                 the rooms' latest events, or    changed
    somebody went                 their history of state          left, unless they share another room

From memory where the token is recent and the rooms are in use; else from the database, which knows all of it
(`storage.device_lists.news`).

Spec: https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user
"""

from __future__ import annotations

import msgspec

from federation.service import service
from homeserver.encryption.log import ChangeLog
from homeserver.encryption.whereabouts import Whereabouts
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Feed, newer
from storage import device_lists as rows
from storage.database import Database
from storage.device_lists import ListNews

NO_NEWS = ListNews([], [])


class _Recent(msgspec.Struct):
    """What memory knows of a stretch of the stream."""

    changed: set[str] = msgspec.field(default_factory=set)
    signed: set[str] = msgspec.field(default_factory=set)
    """Whose keys the reader signed: its other devices are to know, wherever those people are."""
    came: set[str] = msgspec.field(default_factory=set)
    went: set[str] = msgspec.field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.changed or self.signed or self.came or self.went)


@service
class DeviceNews:
    """Tells readers."""

    database: Database
    rooms: Rooms
    log: ChangeLog
    whereabouts: Whereabouts

    async def between(self, feed: Feed, after: int, upto: int) -> ListNews:
        """What is new for the feed's user after one position and up to another, of which the second is not long ago."""
        if after >= upto:
            return NO_NEWS
        if after >= feed.floor and after >= self.log.floor:
            recent = self._recent(feed, after, upto)
            if recent is not None:
                return await self._judge(feed, recent)
        return await self.of(feed.user_id, after, upto)

    async def of(self, user_id: str, after: int, upto: int) -> ListNews:
        """The same for any two positions, from the database."""
        return await self.database.run(rows.news, user_id, after, upto)

    # ----------------------------------------------------------------------------------------------------------

    def _recent(self, feed: Feed, after: int, upto: int) -> _Recent | None:
        """None where memory does not know."""
        for room_nid in newer(feed.moved, after):
            if room_nid not in feed.joined:
                return None  # left: who was there, and whether the reader was, is in the tables
        recent = _Recent()
        for room_nid in newer(feed.changed, after):
            joined_at = feed.joined.get(room_nid)
            if joined_at is None:
                continue
            room = self.rooms.peek_nid(room_nid)
            if room is None:
                return None
            if joined_at > after:
                # Of a partial room the others follow when it is whole.
                recent.came.update(user_id for user_id, ref in room.known_members() if ref.membership == "join")
            elif room.window_floor > after:
                return None
            else:
                _cross(room, after, recent)
        if feed.devices > after:
            recent.changed, recent.signed = self.log.for_reader(feed, after, upto)
        return recent

    async def _judge(self, feed: Feed, recent: _Recent) -> ListNews:
        if not recent:
            return NO_NEWS
        doubtful = (recent.went | (recent.changed - recent.came)) - {feed.user_id}
        where = await self.whereabouts.of(doubtful) if doubtful else {}
        apart = {user_id for user_id in doubtful if where[user_id].isdisjoint(feed.joined)}
        return ListNews(
            sorted(((recent.changed | recent.came) - apart) | recent.signed),
            sorted(recent.went & apart),
        )


def _cross(room: LiveRoom, after: int, recent: _Recent) -> None:
    """Who came into a room and who went, of late."""
    for entry in reversed(room.window):
        if entry.position <= after:
            return
        for change in entry.changes:
            if change.key[0] == "m.room.member":
                was_in = change.old is not None and change.old.membership == "join"
                is_in = change.new is not None and change.new.membership == "join"
                if is_in and not was_in:
                    recent.came.add(change.key[1])
                elif was_in and not is_in:
                    recent.went.add(change.key[1])

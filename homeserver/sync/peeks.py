"""Looking into a room from outside, as far as it is open: what it is now, and what happens in it from then on.

Whoever may read a room's past may do so (`homeserver.rooms.access`), members too.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-previews
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from attrs import frozen

from homeserver.clock import Clock
from homeserver.http.route import Requester
from homeserver.rooms.directory import Directory
from homeserver.rooms.history import History, Page, PageAsk
from homeserver.rooms.state_view import StateView
from homeserver.streams.hub import Hub
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import MAX_LIMIT, NO_EVENT_FILTER
from homeserver.sync.polls import Polls
from homeserver.userdata.account_data import event_json
from storage.database import Database
from storage.ports import StoredEvent
from storage.room_lists import data_of_rooms


class Snapshot(msgspec.Struct, gc=False):
    """A room as somebody may see it now."""

    page: Page
    """Its newest events, newest first."""
    upto: int
    """Where what happens next begins."""
    state: Sequence[StoredEvent]
    membership: str | None
    is_published: bool
    account_data: Sequence[bytes]
    """What the reader keeps about the room."""


class News(msgspec.Struct, gc=False):
    """What happened in a room."""

    page: Page
    """Oldest first."""
    start: int
    end: int
    """Positions in front of and behind it."""


@frozen
class Peeks:
    """Shows rooms. All of it raises Forbidden for whom they are not open."""

    history: History
    state: StateView
    directory: Directory
    database: Database
    hub: Hub
    polls: Polls
    clock: Clock
    max_timeout_ms: int

    async def snapshot(self, user_id: str, room_id: str, limit: int) -> Snapshot:
        upto = self.hub.position
        page = await self.history.page(room_id, user_id, PageAsk(True, RoomToken(upto), None, limit, NO_EVENT_FILTER))
        membership = page.room.membership_of(user_id)
        data = []
        if membership is not None:
            data = await self.database.run(data_of_rooms, user_id, [page.room.nid])
        return Snapshot(
            page,
            upto,
            await self.state.whole(room_id, user_id),
            membership,
            await self.directory.is_published(room_id),
            [event_json(one.type, one.content) for one in data],
        )

    async def news(self, who: Requester, room_id: str, after: int | None, timeout_ms: int) -> News:
        """What happened after a position. Waits up to `timeout_ms` where that is nothing; without a position, which
        only asks where to begin, it does not.
        """
        if after is None:
            after, timeout_ms = self.hub.position, 0
        deadline_ms = self.clock.now_ms() + min(timeout_ms, self.max_timeout_ms)
        room = (await self.history.access.reader(room_id, who.user_id)).room
        feed = self.hub.peek(who.user_id, room.nid)
        try:
            while True:
                marks, upto = feed.marks, max(after, self.hub.position)
                ask = PageAsk(False, RoomToken(after), upto, MAX_LIMIT, NO_EVENT_FILTER)
                page = await self.history.page(room_id, who.user_id, ask)
                remaining_ms = deadline_ms - self.clock.now_ms()
                if page.events or remaining_ms <= 0 or self.hub.closing:
                    return News(page, after, upto if page.end is None else page.end.position)
                if feed.marks == marks:
                    await self.polls.wait(feed, who.device_id, remaining_ms)
        finally:
            self.hub.end_peek(feed, room.nid)

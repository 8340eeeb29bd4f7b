"""Opening feeds: the hub follows a user once the database has said where the user is."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from homeserver.clock import Clock
from homeserver.streams.hub import Feed, Hub
from storage import memberships as membership_rows
from storage.database import Database


class FeedLoader:
    """Hands out feeds; each is opened once however many of a user's devices ask at the same time."""

    def __init__(self, hub: Hub, database: Database, clock: Clock) -> None:
        self._hub = hub
        self._database = database
        self._clock = clock
        self._loading: dict[str, list[Deferred[None]]] = {}

    async def get(self, user_id: str) -> Feed:
        while user_id in self._loading:
            waiter: Deferred[None] = Deferred()
            self._loading[user_id].append(waiter)
            await waiter
        feed = self._hub.feed(user_id)
        if feed is None:
            feed = await self._open(user_id)
        feed.used_ms = self._clock.now_ms()
        return feed

    async def _open(self, user_id: str) -> Feed:
        self._loading[user_id] = []
        feed = self._hub.open_feed(user_id)
        try:
            rows = await self._database.run(membership_rows.rooms_of, user_id)
            self._hub.fill_feed(feed, {row.room_nid: row.since for row in rows if row.membership == "join"})
        except BaseException:
            self._hub.close_feed(feed)
            raise
        finally:
            for waiter in self._loading.pop(user_id):
                waiter.callback(None)
        return feed

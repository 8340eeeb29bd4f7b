"""What somebody is told of friends and direct rooms, in its place in the stream: who was away hears it later."""

from __future__ import annotations

from typing import Literal

import msgspec

from federation.service import service
from homeserver.streams.hub import Hub
from homeserver.streams.positions import take_position
from storage import friend_news as rows
from storage.database import Database
from storage.friend_news import FriendNews
from storage.friends import FRIENDS, INCOMING, NONE, OUTGOING

Kind = Literal[
    "dm.created",
    "dm.deleted",
    "friend_request.received",
    "friend_request.accepted",
    "friend_request.declined",
    "friend_request.removed",
]


class FriendNotice(msgspec.Struct, frozen=True):
    """The notice of one: `publish` makes it known."""

    news: FriendNews

    @property
    def position(self) -> int:
        return self.news.position

    def publish(self, hub: Hub) -> None:
        hub.mark_news(self.news.user_id, self.news.position)


@service
class News:
    """Tells of them."""

    database: Database

    async def tell(self, kind: Kind, user_id: str, other_id: str, room_id: str) -> None:
        """Durable, and on its way to whoever is connected, when it answers."""
        news = FriendNews(user_id, take_position(self.database.counters), kind, other_id, room_id)
        await self.database.write_and_tell(FriendNotice(news), rows.add, news)

    async def tell_change(self, user_id: str, other_id: str, room_id: str, before: int, after: int, by: str) -> None:
        """What the other is to somebody has changed, by what one of them did."""
        if (kind := kind_of(before, after, by_self=by == user_id)) is not None:
            await self.tell(kind, user_id, other_id, room_id)


def kind_of(before: int, after: int, *, by_self: bool) -> Kind | None:
    """How a change of relation is called; None where there is nothing to tell."""
    if after in (before, OUTGOING):
        return None  # who asks knows it
    if after == INCOMING:
        return "friend_request.received"
    if after == FRIENDS:
        return "friend_request.accepted"
    assert after == NONE
    declined = (before == INCOMING and by_self) or (before == OUTGOING and not by_self)
    return "friend_request.declined" if declined else "friend_request.removed"

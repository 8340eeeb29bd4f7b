"""Who wants to hear of friends and direct rooms: the port by which the gateway does.

friendships.news.listeners.append(listener)
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec
from attrs import field, frozen

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
    """Something happened between two people, as one of them, who lives here, is told it."""

    kind: Kind
    user_id: str
    """Who is told."""
    other_id: str
    room_id: str


class FriendListener(Protocol):
    """Told of every change once it is durable: must not wait and must not raise."""

    def friend_news(self, notice: FriendNotice) -> None: ...


@frozen
class News:
    """Tells all who listen."""

    listeners: list[FriendListener] = field(factory=list)

    def tell(self, kind: Kind, user_id: str, other_id: str, room_id: str) -> None:
        for listener in self.listeners:
            listener.friend_news(FriendNotice(kind, user_id, other_id, room_id))

    def tell_change(self, user_id: str, other_id: str, room_id: str, before: int, after: int, by: str) -> None:
        """What the other is to somebody has changed, by what one of them did."""
        if (kind := kind_of(before, after, by_self=by == user_id)) is not None:
            self.tell(kind, user_id, other_id, room_id)


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

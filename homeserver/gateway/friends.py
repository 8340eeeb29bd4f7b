"""`dm.*` and `friend_request.*`: what `homeserver.friends` tells of, passed on to whoever is connected.

It has no place in the stream: who was away finds it in the lists of `ready`, and of the HTTP API.
"""

from __future__ import annotations

from attrs import frozen

from homeserver.friends.notices import FriendNotice
from homeserver.gateway.lobby import Lobby


@frozen
class FriendEvents:
    """Implements `homeserver.friends.notices.FriendListener`."""

    lobby: Lobby

    def friend_news(self, notice: FriendNotice) -> None:
        data = {"room_id": notice.room_id, "user_id": notice.other_id}
        self.lobby.push_to(notice.user_id, notice.kind, data)

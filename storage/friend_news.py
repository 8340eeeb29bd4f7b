"""What people were told of friends and direct rooms: of each the newest.

friend_news   user_id │ position │ kind │ other_id │ room_id
"""

from __future__ import annotations

import msgspec

from storage.ports import Cursor

KEPT = 200
"""Of one person."""


class FriendNews(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened between two people, as one of them is told it."""

    user_id: str
    """Who is told."""
    position: int
    kind: str
    """`friend_request.accepted`"""
    other_id: str
    room_id: str


def add(cursor: Cursor, news: FriendNews) -> None:
    """Keep it, and let the oldest go."""
    cursor.execute(
        "INSERT INTO friend_news (user_id, position, kind, other_id, room_id) VALUES (?, ?, ?, ?, ?)",
        msgspec.structs.astuple(news),
    )
    cursor.execute(
        "DELETE FROM friend_news WHERE user_id = ? AND position <= (SELECT position FROM friend_news WHERE user_id = ?"
        " ORDER BY position DESC LIMIT 1 OFFSET ?)",
        (news.user_id, news.user_id, KEPT),
    )


def since(cursor: Cursor, user_id: str, after: int, upto: int) -> list[FriendNews]:
    """Somebody's in order; with `KEPT` of them there may have been more."""
    rows = cursor.execute(
        "SELECT user_id, position, kind, other_id, room_id FROM friend_news"
        " WHERE user_id = ? AND position > ? AND position <= ? ORDER BY position",
        (user_id, after, upto),
    ).fetchall()
    return [FriendNews(*row) for row in rows]

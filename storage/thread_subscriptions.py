"""Which threads people follow: a row for each that somebody ever did, with the position of its last change.

MSC4306: https://github.com/matrix-org/matrix-spec-proposals/pull/4306
"""

from __future__ import annotations

import msgspec

from storage.ports import Cursor

ENDED, AUTOMATIC, MANUAL = 0, 1, 2


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """What one person said last of one thread."""

    user_id: str
    room_nid: int
    root_id: str
    kind: int
    """`AUTOMATIC`, `MANUAL`, or `ENDED` where there is none any more."""
    position: int


class Change(msgspec.Struct, frozen=True, gc=False):
    """The same as its owner is told it."""

    room_id: str
    root_id: str
    kind: int
    position: int


def get(cursor: Cursor, user_id: str, room_nid: int, root_id: str) -> Subscription | None:
    """None: nothing was ever said of it."""
    row = cursor.execute(
        "SELECT user_id, room_nid, root_id, kind, position FROM thread_subscriptions"
        " WHERE user_id = ? AND room_nid = ? AND root_id = ?",
        (user_id, room_nid, root_id),
    ).fetchone()
    return None if row is None else Subscription(*row)


def put(cursor: Cursor, subscription: Subscription) -> None:
    """Set one, in place of what was there."""
    cursor.later(
        "INSERT INTO thread_subscriptions (user_id, room_nid, root_id, kind, position) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id, room_nid, root_id) DO UPDATE SET kind = excluded.kind, position = excluded.position",
        msgspec.structs.astuple(subscription),
    )


def has_any(cursor: Cursor, user_id: str) -> bool:
    """Whether somebody ever said anything of a thread."""
    row = cursor.execute("SELECT 1 FROM thread_subscriptions WHERE user_id = ? LIMIT 1", (user_id,)).fetchone()
    return row is not None


def changed(cursor: Cursor, user_id: str, after: int, upto: int, limit: int) -> list[Change]:
    """The newest of somebody's that changed after one position and up to another, newest first."""
    rows = cursor.execute(
        "SELECT r.room_id, t.root_id, t.kind, t.position FROM thread_subscriptions t JOIN rooms r ON r.nid = t.room_nid"
        " WHERE t.user_id = ? AND t.position > ? AND t.position <= ? ORDER BY t.position DESC LIMIT ?",
        (user_id, after, upto, limit),
    ).fetchall()
    return [Change(*row) for row in rows]


def followed(cursor: Cursor) -> list[tuple[str, int, str]]:
    """(user id, room nid, root's event id) of everything that anybody follows. Reads the whole table."""
    rows = cursor.execute("SELECT user_id, room_nid, root_id FROM thread_subscriptions WHERE kind <> 0").fetchall()
    return [(user_id, room_nid, root_id) for user_id, room_nid, root_id in rows]


def forget_person(cursor: Cursor, user_id: str) -> None:
    """The account is no more. For the writer."""
    cursor.later("DELETE FROM thread_subscriptions WHERE user_id = ?", (user_id,))

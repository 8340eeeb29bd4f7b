"""Which rooms are direct ones of whom, and what those in them are to each other.

direct_rooms   user_id │ other_id │ room_id │ relation
friend_words   room_id │ user_id │ state │ position
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage import strings
from storage.memberships import NAMES, NUMBERS
from storage.ports import Cursor
from storage.sql import among

NONE, OUTGOING, INCOMING, FRIENDS = range(4)
"""What the other is to somebody: nothing, asked by them, asking them, a friend."""

UPTO = "friends_upto"


class DirectRoom(msgspec.Struct, frozen=True, gc=False):
    """A room that is a direct one for somebody of this server."""

    user_id: str
    other_id: str
    room_id: str
    relation: int


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One with how its two people are in it."""

    other_id: str
    room_id: str
    relation: int
    membership: str
    """The user's own."""
    member_nid: int | None
    """Of the other's member event."""


class Word(msgspec.Struct, frozen=True, gc=False):
    """What somebody says of a friendship beside the room."""

    state: str
    position: int


def add(cursor: Cursor, room: DirectRoom) -> bool:
    """Note a direct room. False where it is noted already; then nothing changes."""
    cursor.execute(
        "INSERT INTO direct_rooms (user_id, other_id, room_id, relation) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        msgspec.structs.astuple(room),
    )
    return cursor.rowcount == 1


def set_relation(cursor: Cursor, room: DirectRoom) -> int | None:
    """Note what the other is by now; what it was. None where the room is not noted: nothing is, then."""
    key = (room.user_id, room.other_id, room.room_id)
    row = cursor.execute(
        "SELECT relation FROM direct_rooms WHERE user_id = ? AND other_id = ? AND room_id = ?", key
    ).fetchone()
    if row is not None and row[0] != room.relation:
        cursor.execute(
            "UPDATE direct_rooms SET relation = ? WHERE user_id = ? AND other_id = ? AND room_id = ?",
            (room.relation, *key),
        )
    return None if row is None else int(row[0])


def remove(cursor: Cursor, user_id: str, other_id: str, room_id: str) -> int | None:
    """Forget a direct room; what the other was by it. None where it was not noted."""
    key = (user_id, other_id, room_id)
    row = cursor.execute(
        "SELECT relation FROM direct_rooms WHERE user_id = ? AND other_id = ? AND room_id = ?", key
    ).fetchone()
    cursor.execute("DELETE FROM direct_rooms WHERE user_id = ? AND other_id = ? AND room_id = ?", key)
    cursor.execute("DELETE FROM friend_words WHERE room_id = ? AND user_id = ?", (room_id, user_id))
    return None if row is None else int(row[0])


def of_pair(cursor: Cursor, user_id: str, other_id: str) -> list[DirectRoom]:
    """Direct rooms of somebody with somebody."""
    rows = cursor.execute(
        "SELECT user_id, other_id, room_id, relation FROM direct_rooms WHERE user_id = ? AND other_id = ?"
        " ORDER BY room_id",
        (user_id, other_id),
    ).fetchall()
    return [DirectRoom(*row) for row in rows]


def of_room(cursor: Cursor, room_id: str) -> list[DirectRoom]:
    """For whom of this server a room is a direct one."""
    rows = cursor.execute(
        "SELECT user_id, other_id, room_id, relation FROM direct_rooms WHERE room_id = ? ORDER BY user_id, other_id",
        (room_id,),
    ).fetchall()
    return [DirectRoom(*row) for row in rows]


def listed(cursor: Cursor, user_id: str) -> list[Listed]:
    """All of somebody's direct rooms, by the others' ids."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is None:
        return []
    rows = cursor.execute(
        "SELECT d.other_id, d.room_id, d.relation, m.membership, m.room_nid FROM direct_rooms d"
        " JOIN rooms r ON r.room_id = d.room_id JOIN memberships m ON m.room_nid = r.nid AND m.user_nid = ?"
        " WHERE d.user_id = ? ORDER BY d.other_id, d.room_id",
        (user_nid, user_id),
    ).fetchall()
    if not rows:
        return []
    others = strings.find_many(cursor, {row[0] for row in rows})
    events: dict[tuple[int, int], int] = {}
    if others:
        condition, parameters = among(cursor, "user_nid", sorted(set(others.values())))
        rooms, more = among(cursor, "room_nid", sorted({row[4] for row in rows}))
        for room_nid, other_nid, event_nid in cursor.execute(
            f"SELECT room_nid, user_nid, event_nid FROM memberships WHERE {condition} AND {rooms}",
            (*parameters, *more),
        ).fetchall():
            events[room_nid, other_nid] = event_nid
    return [
        Listed(
            other_id,
            room_id,
            relation,
            NAMES[membership] or "leave",
            events.get((room_nid, others.get(other_id, 0))) or None,
        )
        for other_id, room_id, relation, membership, room_nid in rows
    ]


def joined_among(cursor: Cursor, user_id: str, room_ids: Sequence[str]) -> list[str]:
    """Those of some rooms that somebody is joined to."""
    user_nid = strings.find(cursor, user_id)
    wanted = [room_id for room_id in room_ids if "\0" not in room_id]
    if user_nid is None or not wanted:
        return []
    condition, parameters = among(cursor, "r.room_id", wanted)
    rows = cursor.execute(
        "SELECT r.room_id FROM rooms r JOIN memberships m ON m.room_nid = r.nid AND m.user_nid = ?"
        f" WHERE {condition} AND m.membership = ? ORDER BY r.room_id",
        (user_nid, *parameters, NUMBERS["join"]),
    ).fetchall()
    return [row[0] for row in rows]


def put_word(cursor: Cursor, room_id: str, user_id: str, word: Word) -> None:
    cursor.later(
        "INSERT INTO friend_words (room_id, user_id, state, position) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (room_id, user_id) DO UPDATE SET state = excluded.state, position = excluded.position",
        (room_id, user_id, word.state, word.position),
    )


def remove_word(cursor: Cursor, room_id: str, user_id: str) -> None:
    """It stands in the room by now."""
    cursor.later("DELETE FROM friend_words WHERE room_id = ? AND user_id = ?", (room_id, user_id))


def words(cursor: Cursor, room_id: str) -> dict[str, Word]:
    """What was said beside a room, by who said it."""
    rows = cursor.execute("SELECT user_id, state, position FROM friend_words WHERE room_id = ?", (room_id,)).fetchall()
    return {user_id: Word(state, position) for user_id, state, position in rows}


def set_upto(cursor: Cursor, upto: int) -> None:
    """Everything up to that position is heeded."""
    cursor.later(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (UPTO, str(upto)),
    )


def unheeded(cursor: Cursor) -> list[DirectRoom]:
    """Direct rooms in which something may have happened that was not heeded when the server stopped."""
    row = cursor.execute("SELECT value FROM meta WHERE key = ?", (UPTO,)).fetchone()
    upto = 0 if row is None else int(row[0])
    rows = cursor.execute(
        "SELECT d.user_id, d.other_id, d.room_id, d.relation FROM direct_rooms d JOIN rooms r ON r.room_id = d.room_id"
        " WHERE r.newest > ? ORDER BY d.user_id, d.other_id, d.room_id",
        (upto,),
    ).fetchall()
    return [DirectRoom(*row) for row in rows]

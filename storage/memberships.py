"""Who is what in which room: the current membership of every user, and how it came about.

Spec: https://spec.matrix.org/v1.19/client-server-api/#mroommember
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from storage import strings
from storage.ports import Cursor
from storage.sql import among

NAMES = (None, "invite", "join", "leave", "ban", "knock")
"""Memberships by the number they have in the tables."""

NUMBERS = {name: number for number, name in enumerate(NAMES) if name is not None}


class RoomOfUser(msgspec.Struct, frozen=True, gc=False):
    """One user's membership in one room."""

    room_nid: int
    room_id: str
    membership: str
    event_nid: int
    """0 where state resolution took the membership away, which counts as `leave`."""
    position: int
    """Its latest change, be it only of the display name."""
    since: int
    """From where the membership holds without a break."""
    forgotten: bool


class MembershipChange(msgspec.Struct, frozen=True, gc=False):
    """One member event of a user in a room's timeline."""

    position: int
    membership: str
    event_nid: int


def rooms_of(cursor: Cursor, user_id: str, memberships: Sequence[str] | None = None) -> list[RoomOfUser]:
    """All rooms that the user ever was in, by nid; or only those where the membership is one of `memberships`."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is None:
        return []
    condition, parameters = _narrow(cursor, memberships)
    rows = cursor.execute(
        f"{_SELECT} WHERE m.user_nid = ?{condition} ORDER BY m.room_nid", [user_nid, *parameters]
    ).fetchall()
    return [_room_of_user(row) for row in rows]


def membership_of(cursor: Cursor, room_nid: int, user_id: str) -> RoomOfUser | None:
    """One user's membership in one room."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is None:
        return None
    row = cursor.execute(f"{_SELECT} WHERE m.user_nid = ? AND m.room_nid = ?", (user_nid, room_nid)).fetchone()
    return None if row is None else _room_of_user(row)


def members_of(cursor: Cursor, room_nid: int, memberships: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """(user id, membership) of everybody who has a membership in the room, or one of `memberships`."""
    condition, parameters = _narrow(cursor, memberships)
    rows = cursor.execute(
        f"SELECT m.user_nid, m.membership FROM memberships m WHERE m.room_nid = ?{condition} ORDER BY m.user_nid",
        [room_nid, *parameters],
    ).fetchall()
    users = strings.texts_of(cursor, {user_nid for user_nid, _ in rows})
    return [(users[user_nid], NAMES[membership] or "leave") for user_nid, membership in rows]


def membership_history(cursor: Cursor, room_nid: int, user_id: str) -> list[MembershipChange]:
    """The user's accepted member events in the room's timeline, oldest first."""
    found = strings.find_many(cursor, ("m.room.member", user_id))
    if len(found) < 2:
        return []
    return [
        MembershipChange(position, NAMES[membership] or "leave", nid)
        for position, membership, nid in cursor.execute(
            "SELECT position, membership, nid FROM events WHERE room_nid = ? AND type_nid = ? AND key_nid = ?"
            " AND position IS NOT NULL AND flags = 0 ORDER BY position",
            (room_nid, found["m.room.member"], found[user_id]),
        ).fetchall()
    ]


def set_forgotten(cursor: Cursor, room_nid: int, user_id: str, forgotten: bool = True) -> None:
    """The user wants to hear of the room no more. A new membership undoes it."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is not None:
        cursor.later(
            "UPDATE memberships SET forgotten = ? WHERE user_nid = ? AND room_nid = ?",
            (int(forgotten), user_nid, room_nid),
        )


def joined_rooms(cursor: Cursor, user_ids: Iterable[str]) -> dict[str, frozenset[int]]:
    """The rooms (nid) that each of some people is joined to."""
    users = strings.find_many(cursor, list(user_ids))
    if not users:
        return {}
    by_nid = {nid: user_id for user_id, nid in users.items()}
    condition, parameters = among(cursor, "user_nid", sorted(by_nid))
    found: dict[str, set[int]] = {}
    for user_nid, room_nid in cursor.execute(
        f"SELECT user_nid, room_nid FROM memberships WHERE {condition} AND membership = ?",
        (*parameters, NUMBERS["join"]),
    ).fetchall():
        found.setdefault(by_nid[user_nid], set()).add(room_nid)
    return {user_id: frozenset(rooms) for user_id, rooms in found.items()}


def share_a_room(cursor: Cursor, one: str, other: str) -> bool:
    """Whether there is a room that both are joined to."""
    users = strings.find_many(cursor, [one, other])
    if len(users) < 2:
        return False
    join = NUMBERS["join"]
    return (
        cursor.execute(
            "SELECT 1 FROM memberships a JOIN memberships b ON b.room_nid = a.room_nid"
            " WHERE a.user_nid = ? AND a.membership = ? AND b.user_nid = ? AND b.membership = ? LIMIT 1",
            (users[one], join, users[other], join),
        ).fetchone()
        is not None
    )


def _narrow(cursor: Cursor, memberships: Sequence[str] | None) -> tuple[str, list[object]]:
    if memberships is None:
        return "", []
    condition, parameters = among(cursor, "m.membership", [NUMBERS[membership] for membership in memberships])
    return f" AND {condition}", parameters


_SELECT = (
    "SELECT m.room_nid, r.room_id, m.membership, m.event_nid, m.position, m.since, m.forgotten FROM memberships m"
    " JOIN rooms r ON r.nid = m.room_nid"
)


def _room_of_user(row: tuple[Any, ...]) -> RoomOfUser:
    room_nid, room_id, membership, event_nid, position, since, forgotten = row
    return RoomOfUser(room_nid, room_id, NAMES[membership] or "leave", event_nid, position, since, bool(forgotten))

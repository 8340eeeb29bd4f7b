"""Whose list of devices changed, and who has come to share a room with whom: what clients hear of between two tokens.

A person's newest change has a row; who is told of it follows from the memberships. What is derived here from the
tables for any two positions, `homeserver.encryption.news` derives from memory for recent ones.

Spec: https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from storage import strings
from storage.memberships import NUMBERS
from storage.ports import Cursor
from storage.sql import among

_JOIN = NUMBERS["join"]


class DeviceUpdate(msgspec.Struct, frozen=True, gc=False):
    """How far other servers are to know of the devices of somebody here."""

    stream_id: int
    """Of the newest update: they count from 1."""
    device_id: str
    """What that was about."""
    position: int
    """Of the newest news of any kind."""


# -- writing ------------------------------------------------------------------------------------------------------


def mark(cursor: Cursor, user_id: str, position: int) -> None:
    """Somebody's list of devices, or cross-signing keys, changed as others see them."""
    nid = strings.intern_many(cursor, (user_id,))[user_id]
    cursor.later(
        "INSERT INTO device_lists (user_nid, position) VALUES (?, ?)"
        " ON CONFLICT (user_nid) DO UPDATE SET position = excluded.position",
        (nid, position),
    )


def last_update(cursor: Cursor, user_id: str) -> DeviceUpdate | None:
    """None where other servers have nothing to know."""
    row = cursor.execute(
        "SELECT stream_id, device_id, position FROM device_updates WHERE user_id = ?", (user_id,)
    ).fetchone()
    return None if row is None else DeviceUpdate(*row)


def put_update(cursor: Cursor, user_id: str, update: DeviceUpdate) -> None:
    cursor.later(
        "INSERT INTO device_updates (user_id, stream_id, device_id, position) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (user_id) DO UPDATE SET stream_id = excluded.stream_id, device_id = excluded.device_id,"
        " position = excluded.position",
        (user_id, update.stream_id, update.device_id, update.position),
    )


def updated_since(cursor: Cursor, after: int) -> list[tuple[str, int]]:
    """People here of whose devices other servers are to hear something newer than that, and its position."""
    rows = cursor.execute(
        "SELECT user_id, position FROM device_updates WHERE position > ? ORDER BY position", (after,)
    ).fetchall()
    return [(user_id, position) for user_id, position in rows]


# -- reading ------------------------------------------------------------------------------------------------------


class ListNews(msgspec.Struct, frozen=True, gc=False):
    """`device_lists` of a `/sync`, each in order of the ids."""

    changed: list[str]
    left: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.left)


def news(cursor: Cursor, user_id: str, after: int, upto: int) -> ListNews:
    """Whose devices somebody should ask for again, and whose they need not watch any more, after `after`.

    Those who changed something by themselves count up to `upto`; who shares a room with whom is taken as it is now.
    """
    user_nid = strings.find(cursor, user_id)
    if user_nid is None:
        return ListNews([], [])
    joined = dict(
        cursor.execute(
            "SELECT room_nid, since FROM memberships WHERE user_nid = ? AND membership = ?", (user_nid, _JOIN)
        ).fetchall()
    )
    changed = _changed(cursor, after, upto)
    came, went = _crossings(cursor, user_nid, joined, after)
    went.update(_left_behind(cursor, user_nid, after))
    shared = _sharing(cursor, list(joined), changed | went)
    shared.add(user_nid)
    found = (changed & shared) | (came - (went - shared)) | _signed(cursor, user_id, after, upto)
    gone = went - shared
    texts = strings.texts_of(cursor, found | gone)
    return ListNews(sorted(texts[nid] for nid in found), sorted(texts[nid] for nid in gone))


def _changed(cursor: Cursor, after: int, upto: int) -> set[int]:
    rows = cursor.execute(
        "SELECT user_nid FROM device_lists WHERE position > ? AND position <= ?", (after, upto)
    ).fetchall()
    return {nid for (nid,) in rows}


def _signed(cursor: Cursor, user_id: str, after: int, upto: int) -> set[int]:
    """Whose keys the user has signed: the user's other devices are to know, wherever those people are."""
    signed = [
        owner
        for (owner,) in cursor.execute(
            "SELECT user_id FROM key_signatures WHERE signer = ? AND position > ? AND position <= ?",
            (user_id, after, upto),
        ).fetchall()
    ]
    return set(strings.find_many(cursor, set(signed)).values())


def _crossings(cursor: Cursor, user_nid: int, joined: dict[int, int], after: int) -> tuple[set[int], set[int]]:
    """Who came into the user's rooms and who went, where the user has been; all who are where the user came."""
    came: set[int] = set()
    went: set[int] = set()
    if not joined:
        return came, went
    condition, parameters = among(cursor, "nid", sorted(joined))
    rooms = cursor.execute(f"SELECT nid FROM rooms WHERE newest > ? AND {condition}", [after, *parameters]).fetchall()
    member_nid = strings.find(cursor, "m.room.member")
    for (room_nid,) in rooms:
        if joined[room_nid] > after:
            came.update(
                nid
                for (nid,) in cursor.execute(
                    "SELECT user_nid FROM memberships WHERE room_nid = ? AND membership = ?", (room_nid, _JOIN)
                ).fetchall()
            )
            continue
        for nid, new, old in cursor.execute(
            "SELECT s.key_nid, e.membership, p.membership FROM state_changes s"
            " LEFT JOIN events e ON e.nid = s.event_nid LEFT JOIN events p ON p.nid = s.previous"
            " WHERE s.room_nid = ? AND s.position > ? AND s.type_nid = ?",
            (room_nid, after, member_nid),
        ).fetchall():
            if new == _JOIN and old != _JOIN:
                came.add(nid)
            elif old == _JOIN and new != _JOIN:
                went.add(nid)
    return came, went


def _left_behind(cursor: Cursor, user_nid: int, after: int) -> set[int]:
    """Who was in the rooms that the user has left, and still is there."""
    found: set[int] = set()
    rooms = cursor.execute(
        "SELECT room_nid, since FROM memberships WHERE user_nid = ? AND position > ? AND membership <> ?",
        (user_nid, after, _JOIN),
    ).fetchall()
    member_nid = strings.find(cursor, "m.room.member")
    for room_nid, left_at in rooms:
        # Who was only invited has shared the room with nobody.
        was_in = cursor.execute(
            "SELECT 1 FROM state_changes s JOIN events p ON p.nid = s.previous WHERE s.room_nid = ? AND s.position > ?"
            " AND s.type_nid = ? AND s.key_nid = ? AND p.membership = ? LIMIT 1",
            (room_nid, after, member_nid, user_nid, _JOIN),
        ).fetchone()
        if was_in is not None:
            found.update(
                nid
                for (nid,) in cursor.execute(
                    "SELECT user_nid FROM memberships WHERE room_nid = ? AND membership = ? AND since <= ?",
                    (room_nid, _JOIN, left_at),
                ).fetchall()
            )
    return found


def _sharing(cursor: Cursor, room_nids: Sequence[int], user_nids: Collection[int]) -> set[int]:
    """Which of the people are in any of the rooms."""
    if not room_nids or not user_nids:
        return set()
    people, parameters = among(cursor, "user_nid", sorted(user_nids))
    rooms, more = among(cursor, "room_nid", sorted(room_nids))
    rows = cursor.execute(
        f"SELECT DISTINCT user_nid FROM memberships WHERE {people} AND {rooms} AND membership = ?",
        [*parameters, *more, _JOIN],
    ).fetchall()
    return {nid for (nid,) in rows}

"""What a person's list of rooms is sorted and filtered by, read for all rooms at once in compact rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage import strings
from storage.account_data import AccountDatum
from storage.memberships import NAMES, NUMBERS
from storage.ports import Cursor
from storage.sql import among, from_blob, from_blob_or_none, to_blob

LOOK_BACK = 200
"""How many of a room's newest events are looked through for one of some types."""


class ListedRoom(msgspec.Struct, frozen=True, gc=False):
    """One room of somebody's, whatever the membership."""

    nid: int
    room_id: str
    membership: str
    member_nid: int
    """The member event; 0 where state resolution took the membership away, which counts as `leave`."""
    position: int
    """Of the membership's latest change, be it only of the display name."""
    forgotten: bool
    newest: int
    """Position of the room's newest event."""
    room_type: str | None


def listed_rooms(cursor: Cursor, user_id: str, room_nids: Sequence[int] | None = None) -> list[ListedRoom]:
    """All rooms that the user ever was in, or those of `room_nids` among them; in no order."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is None or (room_nids is not None and not room_nids):
        return []
    condition, parameters = ("", []) if room_nids is None else among(cursor, "m.room_nid", room_nids)
    rows = cursor.execute(
        "SELECT m.room_nid, r.room_id, m.membership, m.event_nid, m.position, m.forgotten, r.newest, r.room_type"
        " FROM memberships m JOIN rooms r ON r.nid = m.room_nid"
        f" WHERE m.user_nid = ?{' AND ' + condition if condition else ''}",
        [user_nid, *parameters],
    ).fetchall()
    return [
        ListedRoom(
            nid, room_id, NAMES[membership] or "leave", member_nid, position, bool(forgotten), newest,
            from_blob_or_none(room_type),
        )
        for nid, room_id, membership, member_nid, position, forgotten, newest, room_type in rows
    ]  # fmt: skip


def ended_by_others(cursor: Cursor, user_id: str, member_nids: Sequence[int]) -> set[int]:
    """Which of the user's member events ended a stay in a room, and were somebody else's doing: kicks and bans."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is None or not member_nids:
        return set()
    condition, parameters = among(cursor, "e.nid", member_nids)
    rows = cursor.execute(
        "SELECT e.nid FROM events e JOIN events b ON b.nid = e.replaces"
        f" WHERE {condition} AND e.sender_nid <> ? AND b.membership = ?",
        [*parameters, user_nid, NUMBERS["join"]],
    ).fetchall()
    return {nid for (nid,) in rows}


def with_state(cursor: Cursor, event_type: str, room_nids: Sequence[int]) -> set[int]:
    """Which of the rooms have had a state event of that type, with an empty state key."""
    found = strings.find_many(cursor, (event_type, ""))
    if len(found) < 2 or not room_nids:
        return set()
    condition, parameters = among(cursor, "room_nid", room_nids)
    rows = cursor.execute(
        f"SELECT DISTINCT room_nid FROM events WHERE {condition} AND type_nid = ? AND key_nid = ? AND flags = 0",
        [*parameters, found[event_type], found[""]],
    ).fetchall()
    return {nid for (nid,) in rows}


def newest_of_types(cursor: Cursor, types: Sequence[str], room_nids: Sequence[int]) -> dict[int, int]:
    """The position of each room's newest event of some types; rooms without one among the last few are left out."""
    found = strings.find_many(cursor, types)
    if not found:
        return {}
    condition, parameters = among(cursor, "found.type_nid", sorted(found.values()))
    newest: dict[int, int] = {}
    for room_nid in room_nids:
        row = cursor.execute(
            "SELECT found.position FROM (SELECT position, type_nid FROM events WHERE room_nid = ?"
            f" AND position IS NOT NULL AND flags = 0 ORDER BY position DESC LIMIT {LOOK_BACK}) found"
            f" WHERE {condition} ORDER BY found.position DESC LIMIT 1",
            [room_nid, *parameters],
        ).fetchone()
        if row is not None:
            newest[room_nid] = row[0]
    return newest


def data_of_type(cursor: Cursor, user_id: str, event_type: str) -> dict[int, bytes]:
    """One kind of a person's account data in all rooms that have it: room nid → content as JSON."""
    return {
        room_nid: bytes(content)
        for room_nid, content in cursor.execute(
            "SELECT room_nid, content FROM account_data WHERE user_id = ? AND type = ?", (user_id, to_blob(event_type))
        ).fetchall()
    }


def data_of_rooms(cursor: Cursor, user_id: str, room_nids: Sequence[int]) -> list[AccountDatum]:
    """A person's account data of some rooms, in the order of change."""
    if not room_nids:
        return []
    condition, parameters = among(cursor, "room_nid", room_nids)
    rows = cursor.execute(
        f"SELECT room_nid, type, content, position FROM account_data WHERE user_id = ? AND {condition}"
        " ORDER BY position",
        [user_id, *parameters],
    ).fetchall()
    return [
        AccountDatum(room_nid, from_blob(event_type), bytes(content), position)
        for room_nid, event_type, content, position in rows
    ]

"""People as they can be searched for, and the rooms that two of them share.

Spec: https://spec.matrix.org/v1.19/client-server-api/#user-directory
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from storage import strings
from storage.memberships import NUMBERS
from storage.ports import Cursor
from storage.sql import among, from_blob_or_none, to_blob

LAST = "\U0010ffff"
"""Greater than whatever a word may go on with."""


class Somebody(msgspec.Struct, frozen=True, gc=False):
    """One person in the directory."""

    user_id: str
    name: str | None
    avatar_url: str | None


class SharedRooms(msgspec.Struct, frozen=True, gc=False):
    """Some of the rooms in which both of two people are joined, by nid."""

    rooms: list[tuple[int, str]]
    """(nid, room id)"""
    count: int
    """Of all of them."""


def put(cursor: Cursor, somebody: Somebody, words: Collection[str]) -> None:
    """Add somebody, or change by what they are found."""
    name, avatar_url = (None if text is None else to_blob(text) for text in (somebody.name, somebody.avatar_url))
    cursor.later(
        "INSERT INTO people (user_id, name, avatar_url) VALUES (?, ?, ?) ON CONFLICT (user_id)"
        " DO UPDATE SET name = excluded.name, avatar_url = excluded.avatar_url",
        (somebody.user_id, name, avatar_url),
    )
    cursor.later("DELETE FROM people_words WHERE user_id = ?", (somebody.user_id,))
    for word in sorted(words):
        cursor.later("INSERT INTO people_words (word, user_id) VALUES (?, ?)", (word, somebody.user_id))


def remove(cursor: Cursor, user_id: str) -> None:
    """Nobody finds them any more."""
    cursor.later("DELETE FROM people WHERE user_id = ?", (user_id,))
    cursor.later("DELETE FROM people_words WHERE user_id = ?", (user_id,))


def find(cursor: Cursor, beginning: str, limit: int) -> list[Somebody]:
    """People with a word that begins so, in the order of the words."""
    rows = cursor.execute(
        "SELECT DISTINCT p.user_id, p.name, p.avatar_url FROM (SELECT word, user_id FROM people_words"
        " WHERE word >= ? AND word <= ? ORDER BY word, user_id LIMIT ?) w JOIN people p ON p.user_id = w.user_id",
        (beginning, beginning + LAST, limit),
    ).fetchall()
    return [Somebody(user_id, from_blob_or_none(name), from_blob_or_none(avatar)) for user_id, name, avatar in rows]


def missing(cursor: Cursor, limit: int) -> list[str]:
    """Accounts that are open and not in the directory: those of before there was one."""
    rows = cursor.execute(
        "SELECT u.user_id FROM users u LEFT JOIN people p ON p.user_id = u.user_id"
        " WHERE p.user_id IS NULL AND u.deactivated = 0 ORDER BY u.user_id LIMIT ?",
        (limit,),
    ).fetchall()
    return [user_id for (user_id,) in rows]


def sharing(cursor: Cursor, user_id: str, others: Sequence[str]) -> set[str]:
    """Those of some people who are in a room with somebody."""
    nids = strings.find_many(cursor, [user_id, *others])
    mine = nids.get(user_id)
    theirs = {nids[other]: other for other in others if other in nids}
    if mine is None or not theirs:
        return set()
    condition, parameters = among(cursor, "b.user_nid", list(theirs))
    rows = cursor.execute(
        "SELECT DISTINCT b.user_nid FROM memberships a JOIN memberships b ON b.room_nid = a.room_nid"
        f" WHERE a.user_nid = ? AND a.membership = ? AND {condition} AND b.membership = ?",
        [mine, NUMBERS["join"], *parameters, NUMBERS["join"]],
    ).fetchall()
    return {theirs[nid] for (nid,) in rows}


def rooms_joined(cursor: Cursor, user_id: str, limit: int) -> list[int]:
    """Nids of rooms that somebody is in."""
    user_nid = strings.find(cursor, user_id)
    if user_nid is None:
        return []
    rows = cursor.execute(
        "SELECT room_nid FROM memberships WHERE user_nid = ? AND membership = ? ORDER BY room_nid LIMIT ?",
        (user_nid, NUMBERS["join"], limit),
    ).fetchall()
    return [nid for (nid,) in rows]


def shared_rooms(cursor: Cursor, user_id: str, other: str, after_nid: int, limit: int) -> SharedRooms:
    """Rooms in which both are, those after one of them."""
    nids = strings.find_many(cursor, [user_id, other])
    if len(nids) < 2:
        return SharedRooms([], 0)
    joined = NUMBERS["join"]
    tables = "FROM memberships a JOIN memberships b ON b.room_nid = a.room_nid"
    both = "a.user_nid = ? AND a.membership = ? AND b.user_nid = ? AND b.membership = ?"
    pair = (nids[user_id], joined, nids[other], joined)
    counted = cursor.execute(f"SELECT COUNT(*) {tables} WHERE {both}", pair).fetchone()
    found = cursor.execute(
        f"SELECT a.room_nid, r.room_id {tables} JOIN rooms r ON r.nid = a.room_nid"
        f" WHERE {both} AND a.room_nid > ? ORDER BY a.room_nid LIMIT ?",
        (*pair, after_nid, limit),
    ).fetchall()
    return SharedRooms([(nid, room_id) for nid, room_id in found], 0 if counted is None else counted[0])

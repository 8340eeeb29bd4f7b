"""How far what is said has come to people's devices, and how far they have read: positions, and no row per message."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from storage import strings
from storage.memberships import NUMBERS
from storage.ports import Cursor
from storage.sql import among


def note(cursor: Cursor, reached: Sequence[tuple[str, int, int]]) -> None:
    """Write down (user, position, ts): everything up to there has come to them by then."""
    if reached:
        cursor.insert_many("deliveries", ["user_id", "position", "ts"], reached, "ON CONFLICT DO NOTHING")


def forget(cursor: Cursor, before_ts: int) -> None:
    """Drop what is older, but for the last of each person. For the writer only."""
    cursor.later(
        "DELETE FROM deliveries WHERE ts < ? AND position <"
        " (SELECT MAX(d.position) FROM deliveries d WHERE d.user_id = deliveries.user_id)",
        (before_ts,),
    )


def forget_person(cursor: Cursor, user_id: str) -> None:
    """The account is no more. For the writer only."""
    cursor.later("DELETE FROM deliveries WHERE user_id = ?", (user_id,))


def reached(cursor: Cursor, user_ids: Collection[str], position: int) -> dict[str, int]:
    """Whom what is said at a position has come to, and when."""
    if not user_ids:
        return {}
    condition, parameters = among(cursor, "user_id", list(user_ids))
    rows = cursor.execute(
        f"SELECT user_id, MIN(ts) FROM deliveries WHERE {condition} AND position >= ? GROUP BY user_id",
        (*parameters, position),
    ).fetchall()
    return {user_id: int(ts) for user_id, ts in rows}


def present_since(cursor: Cursor, room_nid: int, user_ids: Collection[str], position: int) -> set[str]:
    """Which of these people are in a room, and were at a position without having left since."""
    nids = {nid: user_id for user_id, nid in strings.find_many(cursor, list(user_ids)).items()}
    if not nids:
        return set()
    condition, parameters = among(cursor, "user_nid", sorted(nids))
    rows = cursor.execute(
        f"SELECT user_nid FROM memberships WHERE {condition} AND room_nid = ? AND membership = ? AND since <= ?",
        (*parameters, room_nid, NUMBERS["join"], position),
    ).fetchall()
    return {nids[user_nid] for (user_nid,) in rows}


def readers(cursor: Cursor, room_nid: int, position: int, thread: str, limit: int) -> list[tuple[str, int]]:
    """Who has said that they read up to a position or further, and when they said so last. `thread`: the event's."""
    rows = cursor.execute(
        "SELECT user_id, MIN(ts) FROM receipts WHERE room_nid = ? AND type = 'm.read' AND event_position >= ?"
        " AND (thread = '' OR thread = ?) GROUP BY user_id ORDER BY user_id LIMIT ?",
        (room_nid, position, thread, limit),
    ).fetchall()
    return [(user_id, int(ts)) for user_id, ts in rows]

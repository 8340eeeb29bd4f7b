"""Which messages have an end of their own, and which rooms speak of it (`federation.room.retention`).

read_timers ── everybody has read it ──► ending_events ── it is over ──► nothing
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from federation.room.relations import THREAD, relation_of
from federation.room.retention import RETENTION_TYPES, ends_at, lasts_ms
from storage import memberships
from storage.ports import Cursor, EventAppend
from storage.receipts import UNTHREADED
from storage.sql import among

NOWHERE = -(2**62)
"""Where somebody is who has read nothing."""


class Timer(msgspec.Struct, frozen=True, gc=False):
    """A message that is over some time after it is read."""

    event_nid: int
    lasts_ms: int


def write(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    """Note those of the new events that have an end, and rooms that speak of it. For the writer only."""
    ending: list[tuple[int, int, int]] = []
    timers: list[tuple[int, int, str, str, int, int]] = []
    rooms: set[tuple[int]] = set()
    for entry in appends:
        for new in entry.events:
            stored = new.stored
            if stored.position and not stored.rejected:
                if (at := ends_at(stored.event)) is not None:
                    ending.append((stored.nid, stored.room_nid, at))
                if (lasts := lasts_ms(stored.event)) is not None:
                    relation = relation_of(stored.event)
                    thread = relation.parent if relation is not None and relation.rel_type == THREAD else "main"
                    sender, place = stored.event.sender, stored.position
                    timers.append((stored.nid, stored.room_nid, sender, thread, place, lasts))
            for change in new.changes:
                if change.key[0] in RETENTION_TYPES and not change.key[1] and change.new is not None:
                    rooms.add((entry.room_nid,))
    cursor.insert_many("ending_events", ("event_nid", "room_nid", "ends_ts"), ending, "ON CONFLICT DO NOTHING")
    columns = ("event_nid", "room_nid", "sender", "thread", "position", "lasts_ms")
    cursor.insert_many("read_timers", columns, timers, "ON CONFLICT DO NOTHING")
    cursor.insert_many("retention_rooms", ("room_nid",), sorted(rooms), "ON CONFLICT DO NOTHING")


def next_end(cursor: Cursor) -> int | None:
    """When (ms since 1970) the next message is over by its own word."""
    row = cursor.execute("SELECT ends_ts FROM ending_events WHERE ends_ts >= 0 ORDER BY ends_ts LIMIT 1").fetchone()
    return None if row is None else int(row[0])


def ended(cursor: Cursor, now: int, limit: int) -> list[tuple[int, int]]:
    """(event nid, room nid) of messages that are over by their own word, the earliest first."""
    rows = cursor.execute(
        "SELECT event_nid, room_nid FROM ending_events WHERE ends_ts <= ? ORDER BY ends_ts LIMIT ?", (now, limit)
    ).fetchall()
    return [(nid, room_nid) for nid, room_nid in rows]


def rooms_that_say(cursor: Cursor) -> list[int]:
    """Rooms whose state says, or once said, for how long messages live."""
    return [nid for (nid,) in cursor.execute("SELECT room_nid FROM retention_rooms").fetchall()]


def release(cursor: Cursor, event_nids: Collection[int]) -> None:
    """These are over, or were redacted. For the writer only."""
    condition, parameters = among(cursor, "event_nid", list(event_nids))
    for table in ("ending_events", "read_timers"):
        cursor.later(f"DELETE FROM {table} WHERE {condition}", parameters)


def rooms_with_timers(cursor: Cursor) -> list[int]:
    """Rooms with messages that wait to be read."""
    return [nid for (nid,) in cursor.execute("SELECT DISTINCT room_nid FROM read_timers").fetchall()]


def read_by_all(cursor: Cursor, room_nid: int, machine: str | None = None) -> tuple[list[Timer], bool]:
    """Those of a room's timers that are to count, and whether there are others: everybody has read the message who is
    in the room, but for who sent it. A receipt says so that all may see, that stands there or later, and speaks of the
    message's thread or the whole room. Where nobody else is in the room, nobody has read anything. `machine`: a member
    that is nobody, and reads nothing.
    """
    rows = cursor.execute(
        "SELECT event_nid, lasts_ms, sender, thread, position FROM read_timers WHERE room_nid = ?", (room_nid,)
    ).fetchall()
    if not rows:
        return [], False
    places: dict[str, dict[str, int]] = defaultdict(dict)
    for user_id, thread, position in cursor.execute(
        "SELECT user_id, thread, event_position FROM receipts"
        " WHERE room_nid = ? AND type = 'm.read' AND event_position IS NOT NULL",
        (room_nid,),
    ).fetchall():
        places[thread][user_id] = position
    whole = places[UNTHREADED]
    members = [user_id for user_id, _ in memberships.members_of(cursor, room_nid, ["join"]) if user_id != machine]
    in_order = sorted((whole.get(user_id, NOWHERE), user_id) for user_id in members)
    slowest: dict[str, list[tuple[int, str]]] = {}
    due: list[Timer] = []
    for nid, lasts, sender, thread, position in rows:
        if thread not in slowest:
            slowest[thread] = _two_slowest(in_order, places[thread])
        least = next((place for place, user_id in slowest[thread] if user_id != sender), NOWHERE)
        if least >= position:
            due.append(Timer(nid, lasts))
    return due, len(due) < len(rows)


def _two_slowest(in_order: Sequence[tuple[int, str]], in_thread: Mapping[str, int]) -> list[tuple[int, str]]:
    """Who has read the least of a thread, as (place, user id), in order. `in_order`: how far everybody is otherwise."""
    found: list[tuple[int, str]] = []
    for place, user_id in in_order:
        if len(found) == 2 and found[1][0] <= place:
            break
        found = sorted([*found, (max(place, in_thread.get(user_id, NOWHERE)), user_id)])[:2]
    return found


def start(cursor: Cursor, room_nid: int, timers: Sequence[Timer], now: int) -> None:
    """The time of these counts from `now` (ms since 1970) on, where they are still there. For the writer only."""
    for timer in timers:
        if cursor.execute("DELETE FROM read_timers WHERE event_nid = ?", (timer.event_nid,)).rowcount:
            cursor.execute(
                "INSERT INTO ending_events (event_nid, room_nid, ends_ts) VALUES (?, ?, ?) ON CONFLICT (event_nid)"
                " DO UPDATE SET ends_ts = excluded.ends_ts WHERE ending_events.ends_ts > excluded.ends_ts",
                (timer.event_nid, room_nid, now + timer.lasts_ms),
            )

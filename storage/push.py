"""What push rules made of events, and how far people have come with it.

push_log    what is told of to everybody in a room who follows the server's own rules: one row for all of them
push_own    where that is different for somebody: mentions, words of their own, rooms that they muted
push_reads  how far people read by speaking; receipts have a table of their own
push_turns  since when somebody's usual messages in a room count (or do not)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from storage import memberships
from storage.account_data import GLOBAL, AccountDatum
from storage.ports import Cursor
from storage.sql import among, from_blob

UPTO = "push_upto"


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One event that everybody is told of who follows the server's own rules."""

    room_nid: int
    position: int
    event_nid: int
    thread: str
    """Event id of the thread's root, or `main`."""
    loud: bool
    """Whether it is a highlight."""
    actions: bytes
    """JSON list."""


class OwnEntry(msgspec.Struct, frozen=True, gc=False):
    """What one event is for one person, where that is not what it is for everybody."""

    user_id: str
    room_nid: int
    position: int
    event_nid: int
    thread: str
    notify: int
    """How many more notifications it is than for everybody: 1, 0 or -1."""
    highlight: int
    """And how many more highlights."""
    loud: bool
    actions: bytes


class Place(msgspec.Struct, gc=False):
    """How far somebody is in a room."""

    since: int
    """Joined since then without a break."""
    reads: dict[str, int]
    """Thread, or nothing for all of them → the last position that counts as read."""
    own: list[OwnEntry]
    """Oldest first."""


Read = tuple[str, int, str]
"""(user, room, thread)"""


class Batch(msgspec.Struct, gc=False):
    """What is written at once."""

    log: list[LogEntry] = msgspec.field(default_factory=list)
    own: list[OwnEntry] = msgspec.field(default_factory=list)
    reads: dict[Read, int] = msgspec.field(default_factory=dict)
    turns: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    trims: dict[int, int] = msgspec.field(default_factory=dict)
    """Room → position up to which the log is to be forgotten."""

    @property
    def size(self) -> int:
        return len(self.log) + len(self.own) + len(self.reads) + len(self.turns)


def save(cursor: Cursor, batch: Batch, upto: int) -> None:
    """Write a batch: everything up to that position is judged. For the writer."""
    cursor.insert_many(
        "push_log",
        ("room_nid", "position", "event_nid", "thread", "loud", "actions"),
        [(one.room_nid, one.position, one.event_nid, one.thread, int(one.loud), one.actions) for one in batch.log],
        "ON CONFLICT DO NOTHING",
    )
    cursor.insert_many(
        "push_own",
        ("user_id", "room_nid", "position", "event_nid", "thread", "notify", "highlight", "loud", "actions"),
        [
            (
                one.user_id,
                one.room_nid,
                one.position,
                one.event_nid,
                one.thread,
                one.notify,
                one.highlight,
                int(one.loud),
                one.actions,
            )
            for one in batch.own
        ],
        "ON CONFLICT DO NOTHING",
    )
    cursor.insert_many(
        "push_reads",
        ("user_id", "room_nid", "thread", "position"),
        [(*read, position) for read, position in batch.reads.items()],
        "ON CONFLICT (user_id, room_nid, thread) DO UPDATE SET position = excluded.position",
    )
    cursor.insert_many(
        "push_turns",
        ("user_id", "room_id", "position"),
        [(*turn, position) for turn, position in batch.turns.items()],
        "ON CONFLICT (user_id, room_id) DO UPDATE SET position = excluded.position",
    )
    for room_nid, position in batch.trims.items():
        cursor.later("DELETE FROM push_log WHERE room_nid = ? AND position <= ?", (room_nid, position))
    set_upto(cursor, upto)


def set_upto(cursor: Cursor, upto: int) -> None:
    """Everything up to that position is judged. For the writer."""
    cursor.later(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (UPTO, str(upto)),
    )


def judged_upto(cursor: Cursor) -> int | None:
    """None: nothing ever was."""
    row = cursor.execute("SELECT value FROM meta WHERE key = ?", (UPTO,)).fetchone()
    return None if row is None else int(row[0])


def heeded(cursor: Cursor) -> list[tuple[str, AccountDatum]]:
    """The rules and the ignored of everybody who has any."""
    kind = "BYTEA" if cursor.dialect == "postgresql" else "BLOB"
    found = []
    for name in ("m.push_rules", "m.ignored_user_list"):
        rows = cursor.execute(
            "SELECT user_id, type, content, position FROM account_data"
            f" WHERE type = CAST('{name}' AS {kind}) AND room_nid = 0"
        ).fetchall()
        found += [
            (user_id, AccountDatum(GLOBAL, from_blob(event_type), bytes(content), position))
            for user_id, event_type, content, position in rows
        ]
    return found


def turns(cursor: Cursor) -> dict[tuple[str, str], int]:
    """All of them. Reads the whole table."""
    rows = cursor.execute("SELECT user_id, room_id, position FROM push_turns").fetchall()
    return {(user_id, room_id): position for user_id, room_id, position in rows}


def log_of(cursor: Cursor, room_nid: int, limit: int) -> list[LogEntry]:
    """The newest of a room's log, oldest first."""
    rows = cursor.execute(f"{_LOG} WHERE room_nid = ? ORDER BY position DESC LIMIT ?", (room_nid, limit)).fetchall()
    return [_log_entry(row) for row in reversed(rows)]


def places_of(cursor: Cursor, user_id: str, room_nids: Sequence[int], limit: int) -> dict[int, Place]:
    """How far somebody is in rooms; of what is their own at most the newest `limit` of each."""
    found: dict[int, Place] = {}
    joined = {row.room_nid: row.since for row in memberships.rooms_of(cursor, user_id, ["join"])}
    for room_nid in room_nids:
        found[room_nid] = Place(joined.get(room_nid, 0), {}, [])
    condition, parameters = among(cursor, "room_nid", list(room_nids))
    reads = cursor.execute(
        f"SELECT room_nid, thread, position FROM push_reads WHERE user_id = ? AND {condition}", [user_id, *parameters]
    ).fetchall()
    reads += cursor.execute(
        "SELECT room_nid, thread, MAX(event_position) FROM receipts"
        f" WHERE {condition} AND user_id = ? AND event_position IS NOT NULL GROUP BY room_nid, thread",
        [*parameters, user_id],
    ).fetchall()
    for room_nid, thread, position in reads:
        known = found[room_nid].reads
        known[thread] = max(known.get(thread, 0), position)
    rows = cursor.execute(
        f"{_OWN} WHERE user_id = ? AND {condition} ORDER BY position DESC LIMIT ?",
        [user_id, *parameters, limit * len(room_nids)],
    ).fetchall()
    for row in reversed(rows):
        found[row[1]].own.append(_own_entry(row))
    return found


def told_to_all(cursor: Cursor, room_nids: Sequence[int], before: int, limit: int, only_loud: bool) -> list[LogEntry]:
    """The newest of some rooms' logs below a position, newest first: `limit` of each room at most."""
    if not room_nids:
        return []
    loud = " AND loud = 1" if only_loud else ""
    rows: list[tuple[Any, ...]] = []
    if cursor.dialect == "postgresql":
        rows = cursor.execute(
            "SELECT x.room_nid, x.position, x.event_nid, x.thread, x.loud, x.actions"
            " FROM unnest(CAST(? AS BIGINT[])) AS wanted(nid) CROSS JOIN LATERAL (SELECT * FROM push_log p"
            f" WHERE p.room_nid = wanted.nid AND p.position < ?{loud} ORDER BY p.position DESC LIMIT ?) x",
            (list(room_nids), before, limit),
        ).fetchall()
    else:
        for room_nid in room_nids:
            rows += cursor.execute(
                f"{_LOG} WHERE room_nid = ? AND position < ?{loud} ORDER BY position DESC LIMIT ?",
                (room_nid, before, limit),
            ).fetchall()
    return sorted((_log_entry(row) for row in rows), key=lambda one: -one.position)[:limit]


def told_to(cursor: Cursor, user_id: str, before: int, limit: int, only_loud: bool) -> list[OwnEntry]:
    """What is different for somebody below a position, newest first. With `only_loud` also what is less than usual."""
    loud = " AND (loud = 1 OR highlight < 0)" if only_loud else ""
    rows = cursor.execute(
        f"{_OWN} WHERE user_id = ? AND position < ?{loud} ORDER BY position DESC LIMIT ?", (user_id, before, limit)
    ).fetchall()
    return [_own_entry(row) for row in rows]


def forget_person(cursor: Cursor, user_id: str) -> None:
    """The account is no more. For the writer."""
    for table in ("push_own", "push_reads", "push_turns"):
        cursor.later(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))


_LOG = "SELECT room_nid, position, event_nid, thread, loud, actions FROM push_log"
_OWN = "SELECT user_id, room_nid, position, event_nid, thread, notify, highlight, loud, actions FROM push_own"


def _log_entry(row: tuple[Any, ...]) -> LogEntry:
    room_nid, position, event_nid, thread, loud, actions = row
    return LogEntry(room_nid, position, event_nid, thread, bool(loud), bytes(actions))


def _own_entry(row: tuple[Any, ...]) -> OwnEntry:
    user_id, room_nid, position, event_nid, thread, notify, highlight, loud, actions = row
    return OwnEntry(user_id, room_nid, position, event_nid, thread, notify, highlight, bool(loud), bytes(actions))

"""Stays in rooms that began with most of the members left out, until they are made whole.

Spec: https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid (`omit_members`)
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from storage.append import REJECTED, SOFT_FAILED, UNAPPLIED
from storage.ports import Cursor, StoredEvent

_COLUMNS = "since, until, join_nid, via, servers, failures, retry_at_ts"


class PartialStay(msgspec.Struct, frozen=True, gc=False):
    """One stay: events of the room in its span of positions may have a state that lacks members."""

    since: int
    """Position of the join with which it began."""
    until: int | None
    """The last position before the next stay; None: there is no next one."""
    join_nid: int
    via: str
    """The server that let us in."""
    servers: tuple[str, ...]
    """Those that were said to be in the room when it began, `via` among them."""
    failures: int = 0
    """How often it could not be made whole."""
    retry_at_ts: int = 0

    def covers(self, position: int) -> bool:
        return self.since <= position and (self.until is None or position <= self.until)


def begin(cursor: Cursor, join: StoredEvent, via: str, servers: Sequence[str]) -> None:
    """A stay begins with this join, which has its position. For `EventAppend.also`."""
    end(cursor, join)
    cursor.insert_many(
        "partial_stays",
        ("room_nid", "since", "until", "join_nid", "via", "servers", "failures", "retry_at_ts"),
        [(join.room_nid, join.position, None, join.nid, via, orjson.dumps(list(servers)), 0, 0)],
    )
    cursor.later("UPDATE rooms SET is_partial = 1 WHERE nid = ?", (join.room_nid,))


def end(cursor: Cursor, join: StoredEvent) -> None:
    """Whatever stay was under way has ended before this join. For `EventAppend.also`."""
    cursor.later(
        "UPDATE partial_stays SET until = ? WHERE room_nid = ? AND until IS NULL", (join.position - 1, join.room_nid)
    )


def finish(cursor: Cursor, room_nid: int, since: int, position: int) -> None:
    """The members have come, at that position. For `EventAppend.also`."""
    cursor.later("DELETE FROM partial_stays WHERE room_nid = ? AND since = ?", (room_nid, since))
    cursor.later(
        "UPDATE rooms SET whole_since = ?, is_partial ="
        " CASE WHEN EXISTS (SELECT 1 FROM partial_stays WHERE room_nid = ?) THEN 1 ELSE 0 END WHERE nid = ?",
        (position, room_nid, room_nid),
    )


def note_failure(cursor: Cursor, room_nid: int, since: int, failures: int, retry_at_ts: int) -> None:
    """Nobody could make it whole; the next attempt is not before `retry_at_ts`."""
    cursor.later(
        "UPDATE partial_stays SET failures = ?, retry_at_ts = ? WHERE room_nid = ? AND since = ?",
        (failures, retry_at_ts, room_nid, since),
    )


def stays_of(cursor: Cursor, room_nid: int) -> tuple[PartialStay, ...]:
    """The room's stays, the oldest first."""
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM partial_stays WHERE room_nid = ? ORDER BY since", (room_nid,)
    ).fetchall()
    return tuple(
        PartialStay(since, until, join_nid, via, tuple(orjson.loads(servers)), failures, retry_at_ts)
        for since, until, join_nid, via, servers, failures, retry_at_ts in rows
    )


def rooms_under_way(cursor: Cursor) -> list[str]:
    """Ids of the rooms that have yet to be made whole, or were left before: at start."""
    rows = cursor.execute(
        "SELECT r.room_id FROM partial_stays p JOIN rooms r ON r.nid = p.room_nid WHERE p.until IS NULL ORDER BY r.nid"
    ).fetchall()
    return [room_id for (room_id,) in rows]


def rewrite_verdicts(cursor: Cursor, events: Sequence[StoredEvent]) -> None:
    """Events were judged again: their states and what was thought of them change, their places don't.

    For `EventAppend.also`.
    """
    for stored in events:
        cursor.later(
            "UPDATE events SET before_nid = ?, after_nid = ?, flags = ?, replaces = ? WHERE nid = ?",
            (
                stored.before,
                stored.after,
                REJECTED * stored.rejected + SOFT_FAILED * stored.soft_failed + UNAPPLIED * stored.unapplied,
                stored.replaces or None,
                stored.nid,
            ),
        )

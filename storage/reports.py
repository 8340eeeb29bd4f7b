"""Reports of events, rooms and people, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from storage.ports import Cursor
from storage.sql import among, from_blob, from_blob_or_none, to_blob

State = Literal["open", "resolved", "dismissed"]
OPEN: Final = "open"
RESOLVED: Final = "resolved"
DISMISSED: Final = "dismissed"


class NewReport(msgspec.Struct, frozen=True, gc=False):
    """What somebody reports: an event (room, event and sender), a room, or a person."""

    reporter: str
    reason: str
    created_ts: int
    room_id: str | None = None
    event_id: str | None = None
    user_id: str | None = None


class Report(msgspec.Struct, frozen=True, gc=False):
    """The same as it is kept."""

    nid: int
    reporter: str
    room_id: str | None
    event_id: str | None
    user_id: str | None
    reason: str
    created_ts: int
    resolved_ts: int | None
    resolved_by: str | None
    resolution: str | None
    state: State


def add(cursor: Cursor, report: NewReport) -> None:
    """For the writer only, as its number is the next one."""
    cursor.execute(
        "INSERT INTO reports (nid, reporter, room_id, event_id, user_id, reason, created_ts)"
        " SELECT COALESCE(MAX(nid), 0) + 1, ?, ?, ?, ?, ?, ? FROM reports",
        (
            report.reporter,
            report.room_id,
            report.event_id,
            report.user_id,
            to_blob(report.reason),
            report.created_ts,
        ),
    )


def page(
    cursor: Cursor,
    before: int,
    limit: int,
    *,
    room_ids: Sequence[str] | None = None,
    user_id: str | None = None,
    only_open: bool = False,
    state: State | None = None,
) -> list[Report]:
    """Reports with numbers below `before`, the newest first: all, of some rooms, of one person."""
    condition = "nid < ?"
    parameters: list[object] = [before]
    if state is not None:
        condition += " AND state = ?"
        parameters.append(state)
    for column, values in (("room_id", room_ids), ("user_id", None if user_id is None else [user_id])):
        if values is None:
            continue
        if not values:
            return []
        more, given = among(cursor, column, values)
        condition += f" AND {more}"
        parameters += given
    if only_open:
        condition += " AND resolved_ts IS NULL"
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM reports WHERE {condition} ORDER BY nid DESC LIMIT ?", [*parameters, limit]
    ).fetchall()
    return [_report(row) for row in rows]


def get(cursor: Cursor, nid: int) -> Report | None:
    row = cursor.execute(f"SELECT {_COLUMNS} FROM reports WHERE nid = ?", (nid,)).fetchone()
    return None if row is None else _report(row)


def resolve(cursor: Cursor, nid: int, by: str, resolution: str, now: int) -> bool:
    """Note what was done. False where there is no such report, or somebody was quicker."""
    cursor.execute(
        "UPDATE reports SET state = ?, resolved_ts = ?, resolved_by = ?, resolution = ?"
        " WHERE nid = ? AND resolved_ts IS NULL",
        (RESOLVED, now, by, to_blob(resolution), nid),
    )
    return cursor.rowcount == 1


def decide(cursor: Cursor, nid: int, by: str, state: State, note: str | None, now: int) -> Report | None:
    """Note what was decided, whatever was before; None where there is no such report. For the writer only."""
    decided = (None, None, None) if state == OPEN else (now, by, None if note is None else to_blob(note))
    cursor.execute(
        "UPDATE reports SET state = ?, resolved_ts = ?, resolved_by = ?, resolution = ? WHERE nid = ?",
        (state, *decided, nid),
    )
    return get(cursor, nid)


_COLUMNS = "nid, reporter, room_id, event_id, user_id, reason, created_ts, resolved_ts, resolved_by, resolution, state"


def _report(row: tuple[Any, ...]) -> Report:
    nid, reporter, room_id, event_id, user_id, reason, created_ts, resolved_ts, resolved_by, resolution, state = row
    return Report(
        nid,
        reporter,
        room_id,
        event_id,
        user_id,
        from_blob(reason),
        created_ts,
        resolved_ts,
        resolved_by,
        from_blob_or_none(resolution),
        state,
    )

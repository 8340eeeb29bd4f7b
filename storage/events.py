"""Events as they are read back, and the one change that an event can undergo: its redaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from federation.room.event import StateKey
from federation.room.parse import load_event
from federation.room.versions import ROOM_VERSIONS
from storage import media_refs, relations, retention, search, sticky, strings
from storage.append import REJECTED, SOFT_FAILED, UNAPPLIED
from storage.memberships import NAMES
from storage.ports import Cursor, StateRef, StoredEvent
from storage.sql import among, from_blob_or_none

_COLUMNS = (
    "e.nid, e.position, e.room_nid, e.event_id, e.before_nid, e.after_nid, e.flags, e.redacted_by, e.replaces,"
    " e.received_ts, e.device_id, e.txn_id, e.raw"
)

FIRST = -(2**62)
"""Below every position."""

LAST = 2**62
"""Above every position."""

Moment = tuple[int, int]
"""(time in ms, position): events of one millisecond have an order too. With `FIRST` it is before all of them, with
`LAST` after."""


def load_events(cursor: Cursor, nids: Collection[int]) -> dict[int, StoredEvent]:
    """Events by nid; unknown ones are left out. Redacted ones bring the redaction along."""
    if not nids:
        return {}
    condition, parameters = among(cursor, "e.nid", list(nids))
    rows = cursor.execute(f"SELECT {_COLUMNS} FROM events e WHERE {condition}", parameters).fetchall()
    return {stored.nid: stored for stored in _stored(cursor, rows)}


def load_by_ids(cursor: Cursor, event_ids: Collection[str]) -> dict[str, StoredEvent]:
    """Events by event id, outliers and rejected ones too; unknown ones are left out."""
    if not event_ids:
        return {}
    condition, parameters = among(cursor, "e.event_id", list(event_ids))
    rows = cursor.execute(f"SELECT {_COLUMNS} FROM events e WHERE {condition}", parameters).fetchall()
    return {stored.event.event_id: stored for stored in _stored(cursor, rows)}


def find_nids(cursor: Cursor, event_ids: Collection[str]) -> dict[str, int]:
    """Which of the events are stored, and under which nid."""
    if not event_ids:
        return {}
    condition, parameters = among(cursor, "event_id", list(event_ids))
    return dict(cursor.execute(f"SELECT event_id, nid FROM events WHERE {condition}", parameters).fetchall())


def timeline(
    cursor: Cursor,
    room_nid: int,
    *,
    after: int = FIRST,
    upto: int = LAST,
    limit: int,
    backwards: bool = False,
) -> list[StoredEvent]:
    """A piece of a room's timeline: positions > `after` and <= `upto`, at most `limit` events, oldest first.

    Where there are more, it keeps the oldest; with `backwards` the newest, and gives them newest first. Events that
    were rejected or soft-failed are left out.
    """
    order = "DESC" if backwards else "ASC"
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM events e WHERE e.room_nid = ? AND e.position > ? AND e.position <= ? AND e.flags = 0"
        f" ORDER BY e.position {order} LIMIT ?",
        (room_nid, after, upto, limit),
    ).fetchall()
    return _stored(cursor, rows)


def nearest(cursor: Cursor, room_nid: int, moment: Moment, limit: int, *, backwards: bool) -> list[StoredEvent]:
    """Events of a timeline by the time that they claim to be of: those after a moment, the earliest first, or those
    before it, the latest first. Rejected and soft-failed ones are left out.
    """
    side, order = ("<", "DESC") if backwards else (">", "ASC")
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM events e WHERE e.room_nid = ? AND e.position IS NOT NULL AND e.flags = 0"
        f" AND (e.origin_ts, e.position) {side} (?, ?) ORDER BY e.origin_ts {order}, e.position {order} LIMIT ?",
        (room_nid, *moment, limit),
    ).fetchall()
    return _stored(cursor, rows)


def span_of(cursor: Cursor, room_nid: int, start_ts: int, end_ts: int) -> tuple[int, int] | None:
    """The first and the last position of a timeline's events that claim to be of a time; None where there is none."""
    row = cursor.execute(
        "SELECT MIN(position), MAX(position) FROM events WHERE room_nid = ? AND origin_ts >= ? AND origin_ts <= ?"
        " AND position IS NOT NULL AND flags = 0",
        (room_nid, start_ts, end_ts),
    ).fetchone()
    return None if row is None or row[0] is None else (int(row[0]), int(row[1]))


def placed_at(cursor: Cursor, room_nid: int, positions: Collection[int]) -> list[StoredEvent]:
    """Those events of a room's timeline that are at these few positions, oldest first. Rejected and soft-failed ones
    are left out.
    """
    if not positions:
        return []
    condition, parameters = among(cursor, "e.position", list(positions))
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM events e WHERE e.room_nid = ? AND {condition} AND e.flags = 0 ORDER BY e.position",
        [room_nid, *parameters],
    ).fetchall()
    return _stored(cursor, rows)


def placed_after(cursor: Cursor, room_nid: int, after: int, limit: int) -> list[StoredEvent]:
    """The next events of a room's graph behind a position, oldest first: rejected and soft-failed ones too."""
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM events e WHERE e.room_nid = ? AND e.position > ? ORDER BY e.position LIMIT ?",
        (room_nid, after, limit),
    ).fetchall()
    return _stored(cursor, rows)


class StateEntry(msgspec.Struct, frozen=True, gc=False):
    """What a state would hold of an event."""

    key: StateKey
    ref: StateRef
    rejected: bool


def state_entries(cursor: Cursor, room_nid: int, event_ids: Collection[str]) -> dict[str, StateEntry]:
    """State events of a room by id, as a state holds them: none of them is parsed. Others are left out."""
    if not event_ids:
        return {}
    condition, parameters = among(cursor, "event_id", list(event_ids))
    rows = cursor.execute(
        f"SELECT event_id, room_nid, nid, type_nid, key_nid, membership, flags FROM events WHERE {condition}"
        " AND key_nid IS NOT NULL",
        parameters,
    ).fetchall()
    texts = strings.texts_of(cursor, {nid for row in rows for nid in row[3:5]})
    return {
        event_id: StateEntry(
            (texts[type_nid], texts[key_nid]),
            StateRef(nid, event_id, NAMES[membership] if membership else None),
            flags & REJECTED != 0,
        )
        for event_id, room, nid, type_nid, key_nid, membership, flags in rows
        if room == room_nid
    }


def recent_timelines(
    cursor: Cursor, room_nids: Collection[int], limit: int, upto: int = LAST
) -> dict[int, list[StoredEvent]]:
    """The newest events of several rooms up to a position, oldest first: one round trip for all of them."""
    found: dict[int, list[StoredEvent]] = {room_nid: [] for room_nid in room_nids}
    rows: list[tuple[Any, ...]] = []
    if cursor.dialect == "postgresql":
        rows = cursor.execute(
            f"SELECT {_COLUMNS} FROM unnest(CAST(? AS BIGINT[])) AS wanted(nid) CROSS JOIN LATERAL ("
            "SELECT * FROM events x WHERE x.room_nid = wanted.nid AND x.position <= ? AND x.flags = 0"
            " ORDER BY x.position DESC LIMIT ?) e",
            (list(room_nids), upto, limit),
        ).fetchall()
    else:
        for room_nid in room_nids:  # a call per room is cheaper inside one process than any one statement
            rows += cursor.execute(
                f"SELECT {_COLUMNS} FROM events e WHERE e.room_nid = ? AND e.position <= ? AND e.flags = 0"
                " ORDER BY e.position DESC LIMIT ?",
                (room_nid, upto, limit),
            ).fetchall()
    for stored in _stored(cursor, rows):
        found[stored.room_nid].append(stored)
    for events in found.values():
        events.reverse()
    return found


def events_of_sender(
    cursor: Cursor, user_id: str, *, room_nid: int | None = None, after_nid: int = 0, limit: int = 1000
) -> list[tuple[int, int, str]]:
    """(nid, room nid, event id) of a user's events that are not redacted, by nid, in one room or in all.

    A page at a time: the last nid is the next call's `after_nid`.
    """
    sender_nid = strings.find(cursor, user_id)
    if sender_nid is None:
        return []
    in_room, parameters = ("", []) if room_nid is None else (" AND room_nid = ?", [room_nid])
    return [
        (nid, room, event_id)
        for nid, room, event_id in cursor.execute(
            f"SELECT nid, room_nid, event_id FROM events WHERE sender_nid = ?{in_room} AND nid > ?"
            " AND redacted_by IS NULL AND position IS NOT NULL ORDER BY nid LIMIT ?",
            [sender_nid, *parameters, after_nid, limit],
        ).fetchall()
    ]


def apply_redaction(cursor: Cursor, target_nid: int, raw: bytes, redacted_by: int) -> None:
    """Put an event's redacted form in its place, and take away what was said by the rest of it. For the writer, or
    `EventAppend.also`.
    """
    relations.remove(cursor, target_nid)
    media_refs.release_event(cursor, target_nid, raw)
    search.forget(cursor, target_nid)
    sticky.release(cursor, [target_nid])
    retention.release(cursor, [target_nid])
    cursor.later("UPDATE events SET raw = ?, redacted_by = ? WHERE nid = ?", (raw, redacted_by, target_nid))


def show_redaction(cursor: Cursor, nid: int) -> None:
    """What an unapplied redaction waited for came. For `EventAppend.also`."""
    cursor.later("UPDATE events SET flags = 0 WHERE nid = ?", (nid,))


def _stored(cursor: Cursor, rows: Sequence[tuple[Any, ...]], follow: bool = True) -> list[StoredEvent]:
    """Rows of `_COLUMNS` as events, in their order."""
    versions = {nid: ROOM_VERSIONS[version] for nid, version in _versions(cursor, {row[2] for row in rows}).items()}
    events: list[StoredEvent] = []
    redacted: list[StoredEvent] = []
    for nid, position, room_nid, event_id, before, after, flags, redacted_by, replaces, ts, device, txn, raw in rows:
        stored = StoredEvent(
            nid,
            position or 0,
            room_nid,
            load_event(versions[room_nid], event_id, raw),
            before,
            after,
            flags & REJECTED != 0,
            flags & SOFT_FAILED != 0,
            redacted_by or 0,
            None,
            replaces or 0,
            ts,
            from_blob_or_none(device),
            from_blob_or_none(txn),
            flags & UNAPPLIED != 0,
        )
        events.append(stored)
        if redacted_by is not None:
            redacted.append(stored)
    if redacted and follow:
        condition, parameters = among(cursor, "e.nid", list({stored.redacted_by for stored in redacted}))
        found = cursor.execute(f"SELECT {_COLUMNS} FROM events e WHERE {condition}", parameters).fetchall()
        # A redaction may itself be redacted: nobody is shown more than one step of that.
        redactions = {stored.nid: stored for stored in _stored(cursor, found, follow=False)}
        for stored in redacted:
            stored.redacted_because = redactions.get(stored.redacted_by)
    return events


def _versions(cursor: Cursor, room_nids: Collection[int]) -> dict[int, str]:
    memory = cursor.shared.room_versions
    found: dict[int, str] = {}
    unknown: list[int] = []
    for nid in room_nids:
        version = memory.get(nid)
        if version is None:
            unknown.append(nid)
        else:
            found[nid] = version
    if unknown:
        condition, parameters = among(cursor, "nid", unknown)
        for nid, version in cursor.execute(f"SELECT nid, version FROM rooms WHERE {condition}", parameters).fetchall():
            found[nid] = version
            memory.put(nid, version)
    return found

"""Writing events: a whole batch of appends goes into each table at once.

Everything of one `EventAppend` becomes visible together, because it is in one transaction; several appends share that
transaction when they were queued together (`storage.writer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from storage import auth_chains, media_refs, purges, relations, retention, search, state, sticky, strings
from storage.memberships import NUMBERS
from storage.ports import Cursor, EventAppend, NewEvent, StateChange, StateRef, StoredEvent
from storage.sql import among, to_blob

REJECTED = 1
SOFT_FAILED = 2
UNAPPLIED = 4
EXPIRED = 8
"""Bits of `events.flags`; nobody here is shown an event that has any of them. Of an expired one nothing is left to show
(`storage.expiry`).
"""

MEMBER = "m.room.member"
_OUT = f"{NUMBERS['leave']}, {NUMBERS['ban']}"

_EVENT_COLUMNS = (
    "nid",
    "room_nid",
    "position",
    "event_id",
    "type_nid",
    "key_nid",
    "sender_nid",
    "before_nid",
    "after_nid",
    "origin_ts",
    "received_ts",
    "flags",
    "membership",
    "redacted_by",
    "replaces",
    "chain",
    "chain_seq",
    "device_id",
    "txn_id",
    "raw",
)

_PROMOTE = (
    "UPDATE events SET position = ?, before_nid = ?, after_nid = ?, received_ts = ?, flags = ?, redacted_by = ?,"
    " replaces = ?, chain = COALESCE(?, chain), chain_seq = COALESCE(?, chain_seq), raw = ? WHERE nid = ?"
)


def append(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    """Write all of `appends`, in order. For the writer's thread, which keeps or drops what this learns."""
    related = relations.found_in(appends)
    nids = strings.intern_many(cursor, _texts(appends).union(relation.rel_type for _, relation in related))
    _write_rooms(cursor, appends)
    snapshots = [(entry.room_nid, snapshot) for entry in appends for snapshot in entry.snapshots]
    if snapshots:
        state.write_snapshots(cursor, snapshots, nids)
    _write_events(cursor, appends, nids)
    _write_changes(cursor, appends, nids)
    relations.write(cursor, related, nids)
    search.note_past(cursor, appends)
    sticky.write(cursor, appends)
    retention.write(cursor, appends)
    purges.write(cursor, appends)
    _write_gaps(cursor, appends)
    cursor.insert_many(
        "transactions",
        ("user_nid", "device_nid", "path_nid", "txn_id", "event_nid", "ts"),
        [
            (
                nids[transaction.user_id],
                nids[transaction.device_id],
                nids[transaction.path],
                to_blob(transaction.txn_id),
                entry.events[-1].stored.nid,
                entry.events[-1].stored.received_ts,
            )
            for entry in appends
            if (transaction := entry.transaction) is not None
        ],
    )
    for entry in appends:
        for function in entry.also:
            function(cursor)


def _texts(appends: Sequence[EventAppend]) -> set[str]:
    texts: set[str] = set()
    for entry in appends:
        for new in entry.events:
            event = new.stored.event
            texts.add(event.type)
            texts.add(event.sender)
            if event.state_key is not None:
                texts.add(event.state_key)
            for change in new.changes:
                texts.update(change.key)
        for change in entry.changes:
            texts.update(change.key)
        for snapshot in entry.snapshots:
            for key, _ in snapshot.delta:
                texts.update(key)
        if entry.transaction is not None:
            texts.update((entry.transaction.user_id, entry.transaction.device_id, entry.transaction.path))
    return texts


def _write_rooms(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    """New rooms, and each room's head as the last append of the batch leaves it."""
    for entry in appends:
        if (new := entry.new_room) is not None:
            room_type = None if new.is_space_type is None else to_blob(new.is_space_type)
            cursor.later(
                "INSERT INTO rooms (nid, room_id, version, creator, room_type, extremities, depth, snapshot, newest,"
                " oldest) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0)",
                (new.nid, new.room_id, new.version, new.creator, room_type, b"[]"),
            )
            cursor.shared.room_versions.put(new.nid, new.version)
    heads: dict[int, list[Any]] = {}
    oldest: dict[int, int] = {}
    for entry in appends:
        positions = [new.stored.position for new in entry.events]
        newest = max([*positions, entry.position, 0])
        lowest = min([*positions, 0])
        if lowest:
            oldest[entry.room_nid] = min(lowest, oldest.get(entry.room_nid, 0))
        if entry.head is not None or newest:
            update = heads.setdefault(entry.room_nid, [None, None, None, None])
            if entry.head is not None:
                update[:3] = orjson.dumps(entry.head.extremities), entry.head.depth, entry.head.snapshot
            if newest:
                update[3] = max(newest, update[3] or 0)
    for room_nid, update in heads.items():
        if None not in update:
            cursor.later(
                "UPDATE rooms SET extremities = ?, depth = ?, snapshot = ?, newest = ? WHERE nid = ?",
                (*update, room_nid),
            )
        else:
            cursor.later(
                # What is fetched for the past gets a place in between, and may be newer than nothing.
                "UPDATE rooms SET extremities = COALESCE(?, extremities), depth = COALESCE(?, depth),"
                " snapshot = COALESCE(?, snapshot), newest = CASE WHEN ? > newest THEN ? ELSE newest END WHERE nid = ?",
                (*update, update[3], room_nid),
            )
    for room_nid, position in oldest.items():
        cursor.later(
            "UPDATE rooms SET oldest = ? WHERE nid = ? AND oldest > ?",
            (position, room_nid, position),
        )


def _write_events(cursor: Cursor, appends: Sequence[EventAppend], nids: dict[str, int]) -> None:
    every = [new for entry in appends for new in entry.events]
    known = [new.stored.nid for new in every if new.was_outlier]
    unplaced: set[int] = set()
    if known:
        condition, parameters = among(cursor, "nid", known)
        unplaced = {
            nid
            for (nid,) in cursor.execute(
                f"SELECT nid FROM events WHERE {condition} AND chain IS NULL", parameters
            ).fetchall()
        }
    places = auth_chains.assign_places(
        cursor, [new.stored for new in every if not new.was_outlier or new.stored.nid in unplaced]
    )
    rows: list[tuple[Any, ...]] = []
    for new in every:
        stored, event = new.stored, new.stored.event
        chain, chain_seq = places.get(stored.nid, (None, None))
        flags = REJECTED * stored.rejected + SOFT_FAILED * stored.soft_failed + UNAPPLIED * stored.unapplied
        if new.was_outlier:
            cursor.later(
                _PROMOTE,
                (
                    stored.position or None,
                    stored.before,
                    stored.after,
                    stored.received_ts,
                    flags,
                    stored.redacted_by or None,
                    stored.replaces or None,
                    chain,
                    chain_seq,
                    event.raw,
                    stored.nid,
                ),
            )
            continue
        rows.append(
            (
                stored.nid,
                stored.room_nid,
                stored.position or None,
                event.event_id,
                nids[event.type],
                None if event.state_key is None else nids[event.state_key],
                nids[event.sender],
                stored.before,
                stored.after,
                event.origin_server_ts,
                stored.received_ts,
                flags,
                None if event.state_key is None or event.type != MEMBER else _membership_of(stored),
                stored.redacted_by or None,
                stored.replaces or None,
                chain,
                chain_seq,
                None if stored.device_id is None else to_blob(stored.device_id),
                None if stored.txn_id is None else to_blob(stored.txn_id),
                event.raw,
            )
        )
    cursor.insert_many("events", _EVENT_COLUMNS, rows)
    for new in every:
        media_refs.hold_event(cursor, new.stored.nid, new.stored.event.state_key is not None, new.stored.event.raw)


def _membership_of(stored: StoredEvent) -> int | None:
    membership = stored.event.content.get("membership")
    return NUMBERS.get(membership) if isinstance(membership, str) else None


def _write_changes(cursor: Cursor, appends: Sequence[EventAppend], nids: dict[str, int]) -> None:
    changes: list[tuple[int, ...]] = []
    memberships: dict[tuple[int, int], tuple[int, ...]] = {}
    for entry in appends:
        for position, is_shown, change in _changes_of(entry):
            event_type, state_key = change.key
            event_nid = 0 if change.new is None else change.new.nid
            if is_shown:
                previous = 0 if change.old is None else change.old.nid
                changes.append((entry.room_nid, position, nids[event_type], nids[state_key], event_nid, previous))
            if event_type == MEMBER:
                user_nid = nids[state_key]
                earlier = memberships.get((user_nid, entry.room_nid))
                membership = _membership_number(change.new)
                unbroken = change.old is not None and membership == _membership_number(change.old)
                since = position if not unbroken else 0 if earlier is None else earlier[5]
                memberships[user_nid, entry.room_nid] = (
                    user_nid,
                    entry.room_nid,
                    membership,
                    event_nid,
                    position,
                    since,
                    0,
                )
    cursor.insert_many(
        "state_changes",
        ("room_nid", "position", "type_nid", "key_nid", "event_nid", "previous"),
        changes,
    )
    cursor.insert_many(
        "memberships",
        ("user_nid", "room_nid", "membership", "event_nid", "position", "since", "forgotten"),
        list(memberships.values()),
        # A `since` of 0 leaves what is there.
        "ON CONFLICT (user_nid, room_nid) DO UPDATE SET membership = excluded.membership,"
        " event_nid = excluded.event_nid, position = excluded.position,"
        " since = CASE WHEN excluded.since = 0 THEN memberships.since ELSE excluded.since END,"
        # Who was forgotten by a user stays so, whatever others do to that membership: until it joins, is invited or
        # knocks again.
        f" forgotten = CASE WHEN excluded.membership IN ({_OUT}) AND memberships.membership IN ({_OUT})"
        " THEN memberships.forgotten ELSE 0 END",
    )


def _changes_of(entry: EventAppend) -> Iterator[tuple[int, bool, StateChange]]:
    """Every change with its position, and whether it is one of the room's current state."""
    for change in entry.changes:
        yield entry.position, True, change
    for new in entry.events:
        for change in new.changes:
            yield new.stored.position or entry.position, new.stored.position != 0, change


def _membership_number(ref: StateRef | None) -> int:
    """What resolution took away, or what is no membership, counts as having left."""
    return NUMBERS["leave"] if ref is None or ref.membership is None else NUMBERS.get(ref.membership, NUMBERS["leave"])


def _write_gaps(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    gaps = cursor.writer.gaps
    missing: dict[tuple[int, str], int] = {}
    for entry in appends:
        for event_id in entry.missing_prev:
            behind = [new.stored.position for new in entry.events if event_id in new.stored.event.prev_events]
            key, position = (entry.room_nid, event_id), min(behind, default=0)
            missing[key] = min(position, missing.get(key, position))
    if missing:
        gaps.update(room_nid for room_nid, _ in missing)
        cursor.insert_many(
            "missing_prev",
            ("room_nid", "event_id", "position"),
            sorted((*key, position) for key, position in missing.items()),
            "ON CONFLICT (room_nid, event_id) DO UPDATE SET position = CASE"
            " WHEN excluded.position < missing_prev.position THEN excluded.position ELSE missing_prev.position END",
        )
    for entry in appends:
        if entry.room_nid in gaps and (filled := [_id_of(new) for new in entry.events if new.stored.position]):
            condition, parameters = among(cursor, "event_id", filled)
            cursor.later(f"DELETE FROM missing_prev WHERE room_nid = ? AND {condition}", [entry.room_nid, *parameters])


def _id_of(new: NewEvent) -> str:
    return new.stored.event.event_id

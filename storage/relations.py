"""Relations between events: which events are under another one, and the threads of rooms.

A row tells of a child that is in the timeline, accepted and not redacted. Its parent is named by id, since it may come
later, or not at all; and as somebody may name a parent in another room, whoever reads rows compares the room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from federation.room.relations import ANNOTATION, REFERENCE, REPLACE, THREAD, Relation, relation_of
from storage import strings
from storage.ports import Cursor, EventAppend, StoredEvent
from storage.sql import among, to_blob

Related = tuple[StoredEvent, Relation]

MOST_REFERENCES = 1_000
"""Of one event, that are told with it: the first ones."""

DEEPEST = 3
"""How many steps down from an event relations are followed."""


class ThreadRow(msgspec.Struct, frozen=True, gc=False):
    """A thread, as far as its rows tell."""

    replies: int
    latest: int
    """Position of the newest event in it."""


class Children(msgspec.Struct, gc=False):
    """What hangs on one event and goes with it to clients."""

    edits: list[int] = msgspec.field(default_factory=list)
    """Nids, the newest first, of those who may be valid: sent by the parent's sender, of its type."""
    thread: ThreadRow | None = None
    references: list[str] = msgspec.field(default_factory=list)
    """Event ids in the order of the timeline."""


class Child(msgspec.Struct, frozen=True, gc=False):
    """One event under another."""

    position: int
    nid: int


# -- writing -----------------------------------------------------------------------------------------------------


def found_in(appends: Iterable[EventAppend]) -> list[Related]:
    """The relations of those events that come into the timeline."""
    found: list[Related] = []
    for entry in appends:
        for new in entry.events:
            stored = new.stored
            if stored.position and not stored.rejected and not stored.soft_failed:
                relation = relation_of(stored.event)
                if relation is not None:
                    found.append((stored, relation))
    return found


def write(cursor: Cursor, related: Sequence[Related], nids: Mapping[str, int]) -> None:
    """Keep relations. `nids`: of the interned texts: senders, types, relation types. For the writer only."""
    if not related:
        return
    cursor.insert_many(
        "relations",
        ("parent_id", "rel_nid", "position", "room_nid", "event_nid", "type_nid", "sender_nid", "origin_ts", "key"),
        [
            (
                relation.parent,
                nids[relation.rel_type],
                stored.position,
                stored.room_nid,
                stored.nid,
                nids[stored.event.type],
                nids[stored.event.sender],
                stored.event.origin_server_ts,
                None if relation.key is None else to_blob(relation.key),
            )
            for stored, relation in related
        ],
    )
    _grow_threads(cursor, [one for one in related if one[1].rel_type == THREAD], nids)


def _grow_threads(cursor: Cursor, related: Sequence[Related], nids: Mapping[str, int]) -> None:
    if not related:
        return
    by_thread: dict[tuple[str, int], list[int]] = defaultdict(list)
    by_sender: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for stored, relation in related:
        by_thread[relation.parent, stored.room_nid].append(stored.position)
        by_sender[relation.parent, stored.room_nid, nids[stored.event.sender]].append(stored.position)
    for table, keys, grown in (
        ("threads", ("root_id", "room_nid"), by_thread),
        ("thread_senders", ("root_id", "room_nid", "sender_nid"), by_sender),
    ):
        rows = [(*key, len(positions), max(positions)) for key, positions in grown.items()]
        cursor.insert_many(
            table,
            (*keys, "replies", "latest"),
            rows,
            f"ON CONFLICT ({','.join(keys)}) DO UPDATE SET replies = {table}.replies + excluded.replies,"
            f" latest = CASE WHEN excluded.latest > {table}.latest THEN excluded.latest ELSE {table}.latest END",
        )


def write_missing(cursor: Cursor, events: Sequence[StoredEvent]) -> None:
    """Keep the relations of events from before there was a table of them. For the writer only."""
    related = [(stored, relation) for stored in events if (relation := relation_of(stored.event)) is not None]
    related = [one for one in related if one[0].position and not one[0].redacted_by]
    if not related:
        return
    condition, parameters = among(cursor, "event_nid", [stored.nid for stored, _ in related])
    rows = cursor.execute(f"SELECT event_nid FROM relations WHERE {condition}", parameters).fetchall()
    there = {nid for (nid,) in rows}
    related = [one for one in related if one[0].nid not in there]
    texts = {
        text for stored, relation in related for text in (stored.event.type, stored.event.sender, relation.rel_type)
    }
    write(cursor, related, strings.intern_many(cursor, texts))


def remove(cursor: Cursor, event_nid: int) -> None:
    """An event was redacted, so it relates to nothing any more. For the writer only."""
    row = cursor.execute(
        "SELECT parent_id, rel_nid, room_nid, sender_nid FROM relations WHERE event_nid = ?", (event_nid,)
    ).fetchone()
    if row is None:
        return
    parent_id, rel_nid, room_nid, sender_nid = row
    cursor.later("DELETE FROM relations WHERE event_nid = ?", (event_nid,))
    if rel_nid != strings.find(cursor, THREAD):
        return
    left = "SELECT COUNT(*), MAX(position) FROM relations WHERE parent_id = ? AND rel_nid = ? AND room_nid = ?"
    _shrink(cursor, "threads", "", (parent_id, room_nid), left, (parent_id, rel_nid, room_nid))
    _shrink(
        cursor,
        "thread_senders",
        " AND sender_nid = ?",
        (parent_id, room_nid, sender_nid),
        left + " AND sender_nid = ?",
        (parent_id, rel_nid, room_nid, sender_nid),
    )


def _shrink(
    cursor: Cursor, table: str, more: str, key: Sequence[Any], left: str, left_parameters: Sequence[Any]
) -> None:
    counted = cursor.execute(left, left_parameters).fetchone()
    assert counted is not None
    replies, latest = counted
    which = f"WHERE root_id = ? AND room_nid = ?{more}"
    if replies:
        cursor.later(f"UPDATE {table} SET replies = ?, latest = ? {which}", (replies, latest, *key))
    else:
        cursor.later(f"DELETE FROM {table} {which}", key)


# -- what goes with an event -------------------------------------------------------------------------------------


def children_of(cursor: Cursor, parents: Sequence[StoredEvent]) -> dict[str, Children]:
    """What hangs on events of any rooms, by their ids; those with nothing are left out. State events have nothing."""
    by_id = {stored.event.event_id: stored for stored in parents if stored.event.state_key is None}
    kinds = strings.find_many(cursor, (REPLACE, THREAD, REFERENCE))
    found: dict[str, Children] = {}
    if not by_id or not kinds:
        return found
    condition, ids = among(cursor, "root_id", list(by_id))
    if THREAD in kinds:
        for root_id, room_nid, replies, latest in cursor.execute(
            f"SELECT root_id, room_nid, replies, latest FROM threads WHERE {condition}", ids
        ).fetchall():
            if by_id[root_id].room_nid == room_nid:
                found.setdefault(root_id, Children()).thread = ThreadRow(replies, latest)
    condition, ids = among(cursor, "r.parent_id", list(by_id))
    if REPLACE in kinds:
        for parent_id, nid, room_nid in cursor.execute(
            "SELECT r.parent_id, r.event_nid, r.room_nid FROM relations r"
            " JOIN events p ON p.event_id = r.parent_id AND p.sender_nid = r.sender_nid AND p.type_nid = r.type_nid"
            f" JOIN events e ON e.nid = r.event_nid WHERE {condition} AND r.rel_nid = ?"
            " ORDER BY r.origin_ts DESC, e.event_id DESC",
            [*ids, kinds[REPLACE]],
        ).fetchall():
            if by_id[parent_id].room_nid == room_nid:
                found.setdefault(parent_id, Children()).edits.append(nid)
    if REFERENCE in kinds:
        for parent_id, event_id, room_nid in cursor.execute(
            "SELECT r.parent_id, e.event_id, r.room_nid FROM relations r JOIN events e ON e.nid = r.event_nid"
            f" WHERE {condition} AND r.rel_nid = ? ORDER BY r.position",
            [*ids, kinds[REFERENCE]],
        ).fetchall():
            if by_id[parent_id].room_nid == room_nid:
                references = found.setdefault(parent_id, Children()).references
                if len(references) < MOST_REFERENCES:
                    references.append(event_id)
    return found


def at_positions(cursor: Cursor, threads: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """The events (nids) of threads that are at certain places: root's event id → (room, position)."""
    rel_nid = strings.find(cursor, THREAD)
    if rel_nid is None or not threads:
        return {}
    condition, positions = among(cursor, "position", [position for _, position in threads.values()])
    more, roots = among(cursor, "parent_id", list(threads))
    rows = cursor.execute(
        f"SELECT parent_id, room_nid, position, event_nid FROM relations WHERE {more} AND rel_nid = ? AND {condition}",
        [*roots, rel_nid, *positions],
    ).fetchall()
    return {root_id: nid for root_id, room_nid, position, nid in rows if threads[root_id] == (room_nid, position)}


def thread_without(cursor: Cursor, room_nid: int, root_id: str, senders: Collection[str]) -> ThreadRow | None:
    """A thread without what some senders said in it; None where nothing is left."""
    left_out = set(strings.find_many(cursor, senders).values())
    rows = cursor.execute(
        "SELECT sender_nid, replies, latest FROM thread_senders WHERE root_id = ? AND room_nid = ?",
        (root_id, room_nid),
    ).fetchall()
    kept = [(replies, latest) for sender_nid, replies, latest in rows if sender_nid not in left_out]
    return ThreadRow(sum(replies for replies, _ in kept), max(latest for _, latest in kept)) if kept else None


def speakers(cursor: Cursor, room_nid: int, root_id: str) -> set[str]:
    """Who said something in a thread."""
    rows = cursor.execute(
        "SELECT sender_nid FROM thread_senders WHERE root_id = ? AND room_nid = ?", (root_id, room_nid)
    ).fetchall()
    return set(strings.texts_of(cursor, {nid for (nid,) in rows}).values())


# -- asked for by themselves -------------------------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """Which of the events under another are asked for. Positions in (`after`, `upto`]."""

    room_nid: int
    parent_id: str
    after: int
    upto: int
    rel_type: str | None = None
    event_type: str | None = None
    backwards: bool = True
    deepest: int = 1
    """How many steps down: with more than one, what hangs on an event that is wanted is wanted too."""


def list_children(cursor: Cursor, wanted: Wanted, limit: int) -> list[Child]:
    """Events under another one, by position: the newest first if `backwards`, else the oldest."""
    texts = [text for text in (wanted.rel_type, wanted.event_type) if text is not None]
    nids = strings.find_many(cursor, texts)
    if len(nids) < len(set(texts)):
        return []
    each = "r.room_nid = ?"
    parameters: list[Any] = [wanted.room_nid]
    for column, text in (("rel_nid", wanted.rel_type), ("type_nid", wanted.event_type)):
        if text is not None:
            each += f" AND r.{column} = ?"
            parameters.append(nids[text])
    order = "DESC" if wanted.backwards else "ASC"
    if wanted.deepest == 1:
        rows = cursor.execute(
            f"SELECT r.position, r.event_nid FROM relations r WHERE r.parent_id = ? AND {each}"
            f" AND r.position > ? AND r.position <= ? ORDER BY r.position {order} LIMIT ?",
            [wanted.parent_id, *parameters, wanted.after, wanted.upto, limit],
        ).fetchall()
    else:
        step = "SELECT r.position, r.event_nid, e.event_id, {depth} FROM {source} JOIN events e ON e.nid = r.event_nid"
        first = step.format(depth="1", source="relations r")
        then = step.format(depth="tree.depth + 1", source="tree JOIN relations r ON r.parent_id = tree.event_id")
        rows = cursor.execute(
            f"WITH RECURSIVE tree (position, nid, event_id, depth) AS ({first} WHERE r.parent_id = ? AND {each}"
            f" UNION ALL {then} WHERE tree.depth < ? AND {each})"
            " SELECT DISTINCT position, nid FROM tree WHERE position > ? AND position <= ?"
            f" ORDER BY position {order} LIMIT ?",
            [
                wanted.parent_id,
                *parameters,
                wanted.deepest,
                *parameters,
                wanted.after,
                wanted.upto,
                limit,
            ],
        ).fetchall()
    return [Child(position, nid) for position, nid in rows]


def has_annotated(cursor: Cursor, room_nid: int, parent_id: str, sender: str, event_type: str, key: str) -> bool:
    """Whether somebody has already said that of an event, by the same type of event."""
    nids = strings.find_many(cursor, (ANNOTATION, sender, event_type))
    if len(nids) < 3:
        return False
    rows = cursor.execute(
        "SELECT room_nid, type_nid, key FROM relations WHERE parent_id = ? AND sender_nid = ? AND rel_nid = ?",
        (parent_id, nids[sender], nids[ANNOTATION]),
    ).fetchall()
    return (room_nid, nids[event_type], to_blob(key)) in rows


def related_by(
    cursor: Cursor,
    room_nid: int,
    parents: Collection[str],
    rel_types: Collection[str] | None,
    senders: Collection[str] | None,
) -> set[str]:
    """Which events (by id) have a child of one of these kinds, sent by one of these people. None: of any."""
    if not parents:
        return set()
    condition, parameters = among(cursor, "parent_id", list(parents))
    for column, texts in (("rel_nid", rel_types), ("sender_nid", senders)):
        if texts is None:
            continue
        nids = list(strings.find_many(cursor, texts).values())
        if not nids:
            return set()
        more, values = among(cursor, column, nids)
        condition += f" AND {more}"
        parameters += values
    rows = cursor.execute(
        f"SELECT DISTINCT parent_id FROM relations WHERE {condition} AND room_nid = ?", [*parameters, room_nid]
    ).fetchall()
    return {parent_id for (parent_id,) in rows}


class ThreadFound(msgspec.Struct, frozen=True, gc=False):
    """A thread of a room."""

    root_id: str
    latest: int


def list_threads(
    cursor: Cursor, room_nid: int, before: int, limit: int, participant: str | None = None
) -> list[ThreadFound]:
    """Threads whose newest event lies before a position, the newest first; perhaps only those that somebody began
    or spoke in.
    """
    condition, parameters = "", []
    if participant is not None:
        nid = strings.find(cursor, participant)
        if nid is None:
            return []
        condition = (
            " AND (EXISTS (SELECT 1 FROM thread_senders s WHERE s.root_id = t.root_id AND s.room_nid = t.room_nid"
            " AND s.sender_nid = ?) OR EXISTS (SELECT 1 FROM events e WHERE e.event_id = t.root_id"
            " AND e.sender_nid = ?))"
        )
        parameters = [nid, nid]
    rows = cursor.execute(
        f"SELECT t.root_id, t.latest FROM threads t WHERE t.room_nid = ? AND t.latest < ?{condition}"
        " ORDER BY t.latest DESC LIMIT ?",
        [room_nid, before, *parameters, limit],
    ).fetchall()
    return [ThreadFound(root_id, latest) for root_id, latest in rows]

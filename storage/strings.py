"""Interning: event types, state keys, users and a few other strings as small numbers in the tables."""

from __future__ import annotations

from collections.abc import Collection

from storage.ports import Cursor
from storage.shared import Memory, Staged
from storage.sql import among, among_bytes, chunks, from_blob, to_blob


def next_nid(cursor: Cursor) -> int:
    row = cursor.execute("SELECT COALESCE(MAX(nid), 0) + 1 FROM strings").fetchone()
    assert row is not None
    return int(row[0])


def intern_many(cursor: Cursor, texts: Collection[str]) -> dict[str, int]:
    """The nids of all `texts`, making those that are new. For the writer only."""
    memory = cursor.writer
    found: dict[str, int] = {}
    unknown: list[str] = []
    for text in texts:
        nid = memory.string_nids.get(text)
        if nid is None:
            unknown.append(text)
        else:
            found[text] = nid
    if not unknown:
        return found
    unknown = sorted(set(unknown))
    stored = _select(cursor, unknown)
    rows: list[tuple[int, bytes]] = []
    for text in unknown:
        nid = stored.get(text)
        if nid is None:
            nid = memory.next_string
            memory.next_string += 1
            rows.append((nid, to_blob(text)))
        found[text] = nid
        memory.string_nids.put(text, nid)
    cursor.insert_many("strings", ("nid", "value"), rows)
    return found


def find_many(cursor: Cursor, texts: Collection[str]) -> dict[str, int]:
    """The nids of those `texts` that are interned."""
    memory = _memory(cursor)
    found: dict[str, int] = {}
    unknown: list[str] = []
    for text in texts:
        nid = memory.get(text)
        if nid is None:
            unknown.append(text)
        else:
            found[text] = nid
    if unknown:
        stored = _select(cursor, unknown)
        found.update(stored)
        for text, nid in stored.items():
            memory.put(text, nid)
    return found


def find(cursor: Cursor, text: str) -> int | None:
    """The nid of a string, if it is interned."""
    nid = _memory(cursor).get(text)
    return find_many(cursor, (text,)).get(text) if nid is None else nid


def texts_of(cursor: Cursor, nids: Collection[int]) -> dict[int, str]:
    """What nids stand for."""
    shared = cursor.shared
    found: dict[int, str] = {}
    unknown: list[int] = []
    for nid in nids:
        text = shared.strings.get(nid)
        if text is None:
            unknown.append(nid)
        else:
            found[nid] = text
    if unknown:
        condition, parameters = among(cursor, "nid", list(set(unknown)))
        for nid, blob in cursor.execute(f"SELECT nid, value FROM strings WHERE {condition}", parameters).fetchall():
            text = from_blob(blob)
            found[nid] = text
            if not cursor.is_writer:
                shared.strings.put(nid, text)
    return found


def _memory(cursor: Cursor) -> Memory[str, int] | Staged[str, int]:
    """What the writer reads may be of its own transaction, which can still fail."""
    return cursor.writer.string_nids if cursor.is_writer else cursor.shared.string_nids


def _select(cursor: Cursor, texts: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for chunk in chunks([to_blob(text) for text in texts]):
        condition, parameters = among_bytes(cursor, "value", chunk)
        for nid, blob in cursor.execute(f"SELECT nid, value FROM strings WHERE {condition}", parameters).fetchall():
            found[from_blob(blob)] = nid
    return found

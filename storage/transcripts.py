"""What is said in sounds: a row for each that somebody wanted to know of, which is a piece of work until it has ended.

add ──► WAITS ◄──(put_off: the engine is away; a restart)── AT_WORK ──► DONE
          └──────────────────claim──────────────────────────►  └────► FAILED
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from storage import search
from storage.media import MediaKey
from storage.ports import Cursor
from storage.sql import from_blob, to_blob

WAITS, AT_WORK, DONE, FAILED = range(4)


class Transcript(msgspec.Struct, frozen=True, gc=False):
    """One of them. Times are in ms since 1970."""

    origin: str
    media_id: str
    user_id: str
    """Who asked for it."""
    state: int
    due_ts: int
    """Not to be begun before; once it has ended, when that was."""
    attempts: int = 0
    text: str = ""
    """As far as it was heard."""
    heard_ms: int = 0
    duration_ms: int = 0
    """0 where it is not known yet."""
    language: str | None = None
    error: str | None = None

    @property
    def key(self) -> MediaKey:
        return self.origin, self.media_id


_ALL = "origin, media_id, user_id, state, due_ts, attempts, text, heard_ms, duration_ms, language, error"


def get(cursor: Cursor, origin: str, media_id: str) -> Transcript | None:
    row = cursor.execute(
        f"SELECT {_ALL} FROM transcripts WHERE origin = ? AND media_id = ?", (origin, media_id)
    ).fetchone()
    return None if row is None else _transcript(row)


def add(cursor: Cursor, wanted: Transcript, most: int, again_before_ts: int) -> Transcript | None:
    """Enter a piece of work, or give what is there already; what failed before `again_before_ts` is begun anew.

    None where its user has as many waiting as may be. For the writer only.
    """
    known = get(cursor, *wanted.key)
    if known is not None and not (known.state == FAILED and known.due_ts < again_before_ts):
        return known
    row = cursor.execute(
        "SELECT COUNT(*) FROM transcripts WHERE user_id = ? AND state < ?", (wanted.user_id, DONE)
    ).fetchone()
    if row is not None and row[0] >= most:
        return None
    _put(cursor, wanted)
    return wanted


def claim(cursor: Cursor, now: int) -> Transcript | None:
    """Begin the one that waits longest of those that are due. For the writer only."""
    row = cursor.execute(
        f"SELECT {_ALL} FROM transcripts WHERE state = ? AND due_ts <= ? ORDER BY due_ts, media_id LIMIT 1",
        (WAITS, now),
    ).fetchone()
    if row is None:
        return None
    _move(cursor, (row[0], row[1]), AT_WORK, now)
    return msgspec.structs.replace(_transcript(row), state=AT_WORK)


def next_due(cursor: Cursor) -> int | None:
    """When the next is due, of those that wait."""
    row = cursor.execute("SELECT MIN(due_ts) FROM transcripts WHERE state = ?", (WAITS,)).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def resume(cursor: Cursor) -> None:
    """What was at work when the server stopped waits again. For the writer only."""
    cursor.later("UPDATE transcripts SET state = ? WHERE state = ?", (WAITS, AT_WORK))


def heard(cursor: Cursor, key: MediaKey, text: str, heard_ms: int, duration_ms: int) -> None:
    """How far it is. For the writer only."""
    cursor.later(
        "UPDATE transcripts SET text = ?, heard_ms = ?, duration_ms = ? WHERE origin = ? AND media_id = ?",
        (to_blob(text), heard_ms, duration_ms, *key),
    )


def put_off(cursor: Cursor, key: MediaKey, due_ts: int, attempts: int) -> None:
    """It is tried again later. For the writer only."""
    cursor.later(
        "UPDATE transcripts SET state = ?, due_ts = ?, attempts = ? WHERE origin = ? AND media_id = ?",
        (WAITS, due_ts, attempts, *key),
    )


def fail(cursor: Cursor, key: MediaKey, error: str, now: int) -> None:
    """Nothing comes of it. For the writer only."""
    _move(cursor, key, FAILED, now)
    cursor.later("UPDATE transcripts SET error = ? WHERE origin = ? AND media_id = ?", (error, *key))


def finish(cursor: Cursor, key: MediaKey, text: str, duration_ms: int, language: str | None, now: int) -> None:
    """It is done. Messages with this sound are to be found by its words: they are put on the search index's list.

    For the writer only. Nothing happens where the file was deleted meanwhile.
    """
    if get(cursor, *key) is None:
        return
    _move(cursor, key, DONE, now)
    cursor.later(
        "UPDATE transcripts SET text = ?, heard_ms = ?, duration_ms = ?, language = ?, error = NULL"
        " WHERE origin = ? AND media_id = ?",
        (to_blob(text), duration_ms, duration_ms, language, *key),
    )
    if key[0] == cursor.shared.server_name:
        search.look_again(cursor, _messages_with(cursor, key[1]))


def _messages_with(cursor: Cursor, media_id: str) -> list[int]:
    """Events (nids), other than state, that name a file of this server."""
    rows = cursor.execute(
        "SELECT holder FROM media_refs WHERE media_id = ? ORDER BY holder LIMIT 1000", (media_id,)
    ).fetchall()
    return [int(holder[1:]) for (holder,) in rows if holder.startswith("e")]


def rooms_with(cursor: Cursor, media_id: str) -> list[str]:
    """Rooms in which a message names a file of this server."""
    found = []
    for nid in _messages_with(cursor, media_id):
        row = cursor.execute(
            "SELECT r.room_id FROM events e JOIN rooms r ON r.nid = e.room_nid WHERE e.nid = ?", (nid,)
        ).fetchone()
        if row is not None and row[0] not in found:
            found.append(row[0])
    return found


def texts_of(cursor: Cursor, keys: Collection[MediaKey]) -> dict[MediaKey, str]:
    """What is said in these, as far as it is known for good."""
    found = {}
    for key in sorted(keys):
        told = get(cursor, *key)
        if told is not None and told.state == DONE:
            found[key] = told.text
    return found


def _put(cursor: Cursor, wanted: Transcript) -> None:
    cursor.later("DELETE FROM transcripts WHERE origin = ? AND media_id = ?", wanted.key)
    values = msgspec.structs.asdict(wanted) | {"text": to_blob(wanted.text)}
    cursor.insert_many("transcripts", _ALL.split(", "), [list(values.values())])


def _move(cursor: Cursor, key: MediaKey, state: int, now: int) -> None:
    cursor.later("UPDATE transcripts SET state = ?, due_ts = ? WHERE origin = ? AND media_id = ?", (state, now, *key))


def _transcript(row: tuple[Any, ...]) -> Transcript:
    origin, media_id, user_id, state, due_ts, attempts, text, *rest = row
    return Transcript(origin, media_id, user_id, state, due_ts, attempts, from_blob(text), *rest)

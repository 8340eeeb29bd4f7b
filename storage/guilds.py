"""What a server that is home to guilds keeps beside their rooms: marks of unfinished work, and the audit log.

guilds_unsettled   room_id │ mark            an edit whose consequences in the guild's rooms are still to be sent
guilds_closing     room_id                   a room out of which everybody is to be put
guild_audit        nid │ room_nid │ ts │ user_id │ action │ target │ before │ after │ reason
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage.ports import Cursor


class AuditEntry(msgspec.Struct, frozen=True, gc=False):
    """Who did what in a guild."""

    position: int
    """Its place in the stream, of which an edit takes one; `number` tells the entries of one edit apart."""
    number: int
    ts: int
    """In ms since 1970."""
    user_id: str
    action: str
    target: str
    before: bytes | None = None
    """JSON of what it was, None where there was nothing."""
    after: bytes | None = None
    reason: str | None = None


def set_unsettled(cursor: Cursor, guild_id: str, mark: int) -> None:
    """There is something to be done in a guild. A later mark takes the place of an earlier one."""
    cursor.later(
        "INSERT INTO guilds_unsettled (room_id, mark) VALUES (?, ?)"
        " ON CONFLICT (room_id) DO UPDATE SET mark = excluded.mark",
        (guild_id, mark),
    )


def unsettled_at(cursor: Cursor, guild_id: str) -> int | None:
    """The guild's mark, None where nothing is left to be done."""
    row = cursor.execute("SELECT mark FROM guilds_unsettled WHERE room_id = ?", (guild_id,)).fetchone()
    return None if row is None else int(row[0])


def set_settled(cursor: Cursor, guild_id: str, mark: int) -> None:
    """All is done that this mark stood for; a later one stays."""
    cursor.later("DELETE FROM guilds_unsettled WHERE room_id = ? AND mark = ?", (guild_id, mark))


def unsettled(cursor: Cursor) -> list[str]:
    """Every guild with a mark."""
    return [row[0] for row in cursor.execute("SELECT room_id FROM guilds_unsettled ORDER BY room_id").fetchall()]


def set_closing(cursor: Cursor, room_id: str) -> None:
    """Everybody is to be put out of a room."""
    cursor.later("INSERT INTO guilds_closing (room_id) VALUES (?) ON CONFLICT DO NOTHING", (room_id,))


def set_closed(cursor: Cursor, room_id: str) -> None:
    """Nobody is left in a room."""
    cursor.later("DELETE FROM guilds_closing WHERE room_id = ?", (room_id,))


def closing(cursor: Cursor) -> list[str]:
    """Every room that is being closed."""
    return [row[0] for row in cursor.execute("SELECT room_id FROM guilds_closing ORDER BY room_id").fetchall()]


def add_audit(cursor: Cursor, room_nid: int, entry: AuditEntry) -> None:
    cursor.later(
        "INSERT INTO guild_audit (room_nid, position, number, ts, user_id, action, target, before, after, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (room_nid, *msgspec.structs.astuple(entry)),
    )


def read_audit(cursor: Cursor, room_nid: int, before: tuple[int, int] | None, limit: int) -> Sequence[AuditEntry]:
    """A page of the log, newest first; `before`: position and number of the last one of the page before."""
    rows = cursor.execute(
        "SELECT position, number, ts, user_id, action, target, before, after, reason FROM guild_audit"
        " WHERE room_nid = ? AND (position, number) < (?, ?) ORDER BY position DESC, number DESC LIMIT ?",
        (room_nid, *(before or (2**62, 0)), limit),
    ).fetchall()
    return [AuditEntry(*row) for row in rows]

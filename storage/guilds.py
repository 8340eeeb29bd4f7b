"""What a server that is home to guilds keeps beside their rooms: marks of unfinished work, and the audit log.

guilds_unsettled   room_id │ mark            an edit whose consequences in the guild's rooms are still to be sent
guilds_closing     room_id                   a room out of which everybody is to be put
guilds_untended    room_id                   a guild of another server's whose members here are still to be brought in
guild_audit        nid │ room_nid │ ts │ user_id │ action │ target │ before │ after │ reason
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage import strings
from storage.memberships import NUMBERS
from storage.ports import Cursor
from storage.sql import to_blob


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


def set_untended(cursor: Cursor, guild_id: str) -> None:
    """There may be something to do for people of this server in a guild of another's."""
    cursor.later("INSERT INTO guilds_untended (room_id) VALUES (?) ON CONFLICT DO NOTHING", (guild_id,))


def set_tended(cursor: Cursor, guild_id: str) -> None:
    """All of it is done."""
    cursor.later("DELETE FROM guilds_untended WHERE room_id = ?", (guild_id,))


def untended(cursor: Cursor) -> list[str]:
    """Every guild with such a mark."""
    return [row[0] for row in cursor.execute("SELECT room_id FROM guilds_untended ORDER BY room_id").fetchall()]


def left_behind(cursor: Cursor, steward: str) -> dict[str, list[str]]:
    """By guild of this steward's: who has left it and is still in some other room of its, perhaps in a channel of that
    guild.
    """
    join, leave, ban = (NUMBERS[name] for name in ("join", "leave", "ban"))
    rows = cursor.execute(
        "SELECT g.room_id, m.user_nid FROM rooms g JOIN memberships m ON m.room_nid = g.nid"
        " WHERE g.creator = ? AND g.room_type = ? AND (m.membership = ? OR m.membership = ?) AND EXISTS ("
        "SELECT 1 FROM memberships o JOIN rooms c ON c.nid = o.room_nid WHERE o.user_nid = m.user_nid"
        " AND o.membership = ? AND c.creator = g.creator AND (c.room_type IS NULL OR c.room_type <> g.room_type))"
        " ORDER BY g.nid, m.user_nid",
        (steward, to_blob("m.space"), leave, ban, join),
    ).fetchall()
    users = strings.texts_of(cursor, {user_nid for _, user_nid in rows})
    found: dict[str, list[str]] = {}
    for guild_id, user_nid in rows:
        found.setdefault(guild_id, []).append(users[user_nid])
    return found


def spoilt(cursor: Cursor, steward: str) -> list[str]:
    """Rooms in which state of this steward's was redacted at some time: perhaps it is still to be sent again."""
    rows = cursor.execute(
        "SELECT DISTINCT r.room_id FROM events e JOIN rooms r ON r.nid = e.room_nid"
        " WHERE e.sender_nid = ? AND e.redacted_by IS NOT NULL AND e.key_nid IS NOT NULL ORDER BY r.room_id",
        (strings.find(cursor, steward),),
    ).fetchall()
    return [room_id for (room_id,) in rows]


def add_audit(cursor: Cursor, room_nid: int, entry: AuditEntry) -> None:
    cursor.later(
        "INSERT INTO guild_audit (room_nid, position, number, ts, user_id, action, target, before, after, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (room_nid, *msgspec.structs.astuple(entry)),
    )


def add_audit_aside(
    cursor: Cursor,
    room_nid: int,
    position: int,
    *,
    ts: int,
    user_id: str,
    action: str,
    target: str,
    before: bytes,
    after: bytes,
) -> None:
    """Write down what was done without any event: behind what has been at this position. For the writer only."""
    row = cursor.execute(
        "SELECT MAX(number) FROM guild_audit WHERE room_nid = ? AND position = ?", (room_nid, position)
    ).fetchone()
    number = 0 if row is None or row[0] is None else int(row[0]) + 1
    add_audit(cursor, room_nid, AuditEntry(position, number, ts, user_id, action, target, before, after))


def read_audit(cursor: Cursor, room_nid: int, before: tuple[int, int] | None, limit: int) -> Sequence[AuditEntry]:
    """A page of the log, newest first; `before`: position and number of the last one of the page before."""
    rows = cursor.execute(
        "SELECT position, number, ts, user_id, action, target, before, after, reason FROM guild_audit"
        " WHERE room_nid = ? AND (position, number) < (?, ?) ORDER BY position DESC, number DESC LIMIT ?",
        (room_nid, *(before or (2**62, 0)), limit),
    ).fetchall()
    return [AuditEntry(*row) for row in rows]

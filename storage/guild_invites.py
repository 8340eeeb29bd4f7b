"""Codes that let people into guilds.

guild_invites   code │ guild_id │ room_id │ user_id │ created_ts │ expires_ts │ max_uses │ uses
"""

from __future__ import annotations

import msgspec

from storage.ports import Cursor


class Invite(msgspec.Struct, frozen=True, gc=False):
    code: str
    guild_id: str
    room_id: str | None
    """The channel to be shown first."""
    user_id: str
    """Who made it."""
    created_ts: int
    """In ms since 1970, as is the other."""
    expires_ts: int | None = None
    max_uses: int | None = None
    uses: int = 0


_COLUMNS = "code, guild_id, room_id, user_id, created_ts, expires_ts, max_uses, uses"
_VALID = "(max_uses IS NULL OR uses < max_uses) AND (expires_ts IS NULL OR expires_ts > ?)"


def add(cursor: Cursor, invite: Invite) -> None:
    cursor.execute(
        f"INSERT INTO guild_invites ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(invite)
    )


def get_valid(cursor: Cursor, code: str, now: int) -> Invite | None:
    """The invitation behind a code; None too where it is used up or has expired."""
    row = cursor.execute(f"SELECT {_COLUMNS} FROM guild_invites WHERE code = ? AND {_VALID}", (code, now)).fetchone()
    return None if row is None else Invite(*row)


def valid_of_guild(cursor: Cursor, guild_id: str, now: int) -> list[Invite]:
    """Those that can be used, newest first."""
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM guild_invites WHERE guild_id = ? AND {_VALID} ORDER BY created_ts DESC, code",
        (guild_id, now),
    ).fetchall()
    return [Invite(*row) for row in rows]


def take_use(cursor: Cursor, code: str, now: int) -> bool:
    """Count one use. False, and nothing counted, where there is none left."""
    cursor.execute(f"UPDATE guild_invites SET uses = uses + 1 WHERE code = ? AND {_VALID}", (code, now))
    return cursor.rowcount == 1


def give_back(cursor: Cursor, code: str) -> None:
    """A use that was counted came to nothing."""
    cursor.later("UPDATE guild_invites SET uses = uses - 1 WHERE code = ? AND uses > 0", (code,))


def remove(cursor: Cursor, guild_id: str, code: str) -> bool:
    """False where the guild has no such code."""
    cursor.execute("DELETE FROM guild_invites WHERE guild_id = ? AND code = ?", (guild_id, code))
    return cursor.rowcount == 1


def remove_invalid(cursor: Cursor, guild_id: str, now: int) -> None:
    """Clear away what is used up or has expired."""
    cursor.later(f"DELETE FROM guild_invites WHERE guild_id = ? AND NOT ({_VALID})", (guild_id, now))


def remove_all(cursor: Cursor, guild_id: str) -> None:
    """The guild is no more."""
    cursor.later("DELETE FROM guild_invites WHERE guild_id = ?", (guild_id,))

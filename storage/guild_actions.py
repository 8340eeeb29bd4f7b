"""Actions in guilds that other servers asked for, remembered so that each is done once.

guild_actions   server │ action_id │ until_ts
"""

from __future__ import annotations

from storage.ports import Cursor


def note(cursor: Cursor, server: str, action_id: str, until_ts: int, now: int) -> bool:
    """Remember an action for as long as it could be asked for. False where it is remembered already."""
    cursor.execute("DELETE FROM guild_actions WHERE until_ts < ?", (now,))
    cursor.execute(
        "INSERT INTO guild_actions (server, action_id, until_ts) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (server, action_id, until_ts),
    )
    return cursor.rowcount == 1

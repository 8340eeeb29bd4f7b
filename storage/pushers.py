"""Where people want their notifications sent: one row per person, application and key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from storage.ports import Cursor
from storage.sql import from_blob, to_blob


class _Kind(msgspec.Struct, frozen=True):
    kind: str


class Pusher(msgspec.Struct, frozen=True, gc=False):
    """One of them."""

    user_id: str
    app_id: str
    pushkey: str
    device_id: str
    """That set it."""
    told: bytes
    """What the client said of it, as JSON."""
    enabled: bool
    set_ts: int
    sent_upto: int
    """What came later (positions of the stream) was not passed on yet."""
    activated: bool = True
    """Whether where it leads was heard to want it, for kinds that have to be asked."""
    token: str | None = None
    """What is in links of its mail."""

    @property
    def kind(self) -> str:
        return str(msgspec.json.decode(self.told, type=_Kind).kind)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.user_id, self.app_id, self.pushkey


def put(cursor: Cursor, pusher: Pusher, is_shared: bool) -> list[Pusher]:
    """Set one, in place of what was there. Unless `is_shared`, it is taken from other people: those that went are
    given back. For the writer.
    """
    gone: list[Pusher] = []
    if not is_shared:
        rows = cursor.execute(
            f"{_SELECT} WHERE app_id = ? AND pushkey = ? AND user_id <> ?",
            (to_blob(pusher.app_id), to_blob(pusher.pushkey), pusher.user_id),
        ).fetchall()
        gone = [_pusher(row) for row in rows]
        for one in gone:
            delete(cursor, one.user_id, one.app_id, one.pushkey)
    cursor.later(
        "INSERT INTO pushers (user_id, app_id, pushkey, device_id, told, enabled, set_ts, sent_upto, activated, token)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, app_id, pushkey) DO UPDATE SET"
        " device_id = excluded.device_id, told = excluded.told, enabled = excluded.enabled,"
        " set_ts = excluded.set_ts, sent_upto = excluded.sent_upto, activated = excluded.activated,"
        " token = excluded.token",
        (
            pusher.user_id,
            to_blob(pusher.app_id),
            to_blob(pusher.pushkey),
            to_blob(pusher.device_id),
            pusher.told,
            int(pusher.enabled),
            pusher.set_ts,
            pusher.sent_upto,
            int(pusher.activated),
            pusher.token,
        ),
    )
    return gone


def delete(cursor: Cursor, user_id: str, app_id: str, pushkey: str) -> None:
    """For the writer."""
    cursor.later(
        "DELETE FROM pushers WHERE user_id = ? AND app_id = ? AND pushkey = ?",
        (user_id, to_blob(app_id), to_blob(pushkey)),
    )


def delete_all(cursor: Cursor, user_id: str) -> None:
    """The account is no more. For the writer."""
    cursor.later("DELETE FROM pushers WHERE user_id = ?", (user_id,))


def sent(cursor: Cursor, key: tuple[str, str, str], upto: int) -> None:
    """Everything up to there was passed on. For the writer."""
    user_id, app_id, pushkey = key
    cursor.later(
        "UPDATE pushers SET sent_upto = ? WHERE user_id = ? AND app_id = ? AND pushkey = ?",
        (upto, user_id, to_blob(app_id), to_blob(pushkey)),
    )


def activate(cursor: Cursor, key: tuple[str, str, str]) -> None:
    """Where it leads wants it. For the writer."""
    user_id, app_id, pushkey = key
    cursor.later(
        "UPDATE pushers SET activated = 1 WHERE user_id = ? AND app_id = ? AND pushkey = ?",
        (user_id, to_blob(app_id), to_blob(pushkey)),
    )


def kept_key(cursor: Cursor, name: str, fresh: str) -> str:
    """A key of this server's by that name: the one that is kept, or `fresh` from now on. For the writer."""
    cursor.execute("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING", (name, fresh))
    row = cursor.execute("SELECT value FROM meta WHERE key = ?", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def every(cursor: Cursor) -> Sequence[Pusher]:
    """All of them, of everybody. Reads the whole table."""
    rows = cursor.execute(f"{_SELECT} ORDER BY user_id, app_id, pushkey").fetchall()
    return [_pusher(row) for row in rows]


_SELECT = "SELECT user_id, app_id, pushkey, device_id, told, enabled, set_ts, sent_upto, activated, token FROM pushers"


def _pusher(row: tuple[Any, ...]) -> Pusher:
    user_id, app_id, pushkey, device_id, told, enabled, set_ts, sent_upto, activated, token = row
    return Pusher(
        user_id,
        from_blob(app_id),
        from_blob(pushkey),
        from_blob(device_id),
        bytes(told),
        bool(enabled),
        set_ts,
        sent_upto,
        bool(activated),
        token,
    )

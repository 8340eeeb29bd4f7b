"""Whom this server may send mail, and how far it has told them of rooms."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage.ports import Cursor
from storage.sql import to_blob

HOUR_MS = 3_600_000
LONGEST_WAIT_MS = 30 * 24 * HOUR_MS


class Mailed(msgspec.Struct, frozen=True, gc=False):
    """What somebody was told of a room by mail."""

    room_nid: int
    ts: int
    """Of the last mail, in ms since 1970."""
    upto: int
    """Position of the newest that was in it."""
    pause_ms: int
    """Before there is another."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Whether an address may be asked if it wants mail."""

    refused: bool = False
    wait_ms: int = 0
    """If not now: in so long."""


def claim(cursor: Cursor, address: str, now_ms: int) -> Claim:
    """Whether an address may be asked; if so, it counts as asked now. Each time it has to wait twice as long.

    For the writer.
    """
    row = cursor.execute(
        "SELECT asked_ts, times, refused FROM mail_addresses WHERE address = ?", (to_blob(address.lower()),)
    ).fetchone()
    times = 0
    if row is not None:
        asked_ts, times, refused = row
        if refused:
            return Claim(refused=True)
        wait_ms = asked_ts + min(HOUR_MS << max(0, times - 1), LONGEST_WAIT_MS) - now_ms if times else 0
        if wait_ms > 0:
            return Claim(wait_ms=wait_ms)
    _put(cursor, address, now_ms, min(times + 1, 32), refused=False)
    return Claim()


def accept(cursor: Cursor, address: str, now_ms: int) -> None:
    """It wants mail. For the writer."""
    _put(cursor, address, now_ms, 0, refused=False)


def refuse(cursor: Cursor, address: str, now_ms: int) -> None:
    """It wants none, ever. For the writer."""
    _put(cursor, address, now_ms, 0, refused=True)


def rooms_mailed(cursor: Cursor, user_id: str) -> dict[int, Mailed]:
    """By the rooms' nids."""
    rows = cursor.execute(
        "SELECT room_nid, mailed_ts, mailed_upto, pause_ms FROM mail_rooms WHERE user_id = ?", (user_id,)
    ).fetchall()
    return {row[0]: Mailed(*row) for row in rows}


def mailed(cursor: Cursor, user_id: str, rooms: Sequence[Mailed]) -> None:
    """Somebody was told of these. For the writer."""
    cursor.insert_many(
        "mail_rooms",
        ("user_id", "room_nid", "mailed_ts", "mailed_upto", "pause_ms"),
        [(user_id, one.room_nid, one.ts, one.upto, one.pause_ms) for one in rooms],
        "ON CONFLICT (user_id, room_nid) DO UPDATE SET mailed_ts = excluded.mailed_ts,"
        " mailed_upto = excluded.mailed_upto, pause_ms = excluded.pause_ms",
    )


def forget_person(cursor: Cursor, user_id: str) -> None:
    """The account is no more. For the writer."""
    cursor.later("DELETE FROM mail_rooms WHERE user_id = ?", (user_id,))


def _put(cursor: Cursor, address: str, now_ms: int, times: int, *, refused: bool) -> None:
    cursor.later(
        "INSERT INTO mail_addresses (address, asked_ts, times, refused) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (address) DO UPDATE SET asked_ts = excluded.asked_ts, times = excluded.times,"
        " refused = excluded.refused",
        (to_blob(address.lower()), now_ms, times, int(refused)),
    )

"""What other servers have yet to hear of, who of them is left alone, and how to find out what a crash hid.

owed          destination   room_nid  position
              peer.example  7         4711        tell it of the newest events of room 7, which has some up to 4711
owed_devices  destination   user_id   position
              peer.example  @a:x      4712        tell it of the newest change of somebody's devices
destinations  server_name   failures  retry_at_ts
              peer.example  12        1700000000000
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from federation.room.identifiers import server_of
from storage import strings
from storage.memberships import NUMBERS
from storage.ports import Cursor
from storage.sql import among

SENT_UPTO = "sent_upto"
MOST_LOOKED_AT = 10_000
"""Of a room's newest events: after a crash there are a few, and many only if nothing was written down for long."""

_GONE = (NUMBERS["leave"], NUMBERS["ban"])


class Attempts(msgspec.Struct, frozen=True, gc=False):
    """A server did not answer, so often in a row, and is left alone until then (ms since 1970)."""

    failures: int
    retry_at_ts: int


class Debt(msgspec.Struct, frozen=True, gc=False):
    """What is owed to a server in one room."""

    room_nid: int
    room_id: str
    position: int


class DeviceDebt(msgspec.Struct, frozen=True, gc=False):
    """That a server is to hear of somebody's devices."""

    user_id: str
    position: int


class Unsent(msgspec.Struct, frozen=True, gc=False):
    """A room with events of this server that may not have been sent."""

    room_nid: int
    room_id: str
    position: int
    """Of the newest of them."""
    departed: Mapping[str, int]
    """Servers of people who left meanwhile, with the position of the last event that they were to hear of."""


def read_upto(cursor: Cursor) -> int | None:
    """Up to where the book-keeping is complete; None if it was never begun."""
    row = cursor.execute("SELECT value FROM meta WHERE key = ?", (SENT_UPTO,)).fetchone()
    return None if row is None else int(row[0])


def write_upto(cursor: Cursor, position: int) -> None:
    cursor.later(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (SENT_UPTO, str(position)),
    )


def all_attempts(cursor: Cursor) -> dict[str, Attempts]:
    """Every server that did not answer."""
    rows = cursor.execute("SELECT server_name, failures, retry_at_ts FROM destinations").fetchall()
    return {server_name: Attempts(failures, retry_at_ts) for server_name, failures, retry_at_ts in rows}


def write_attempts(cursor: Cursor, changes: Mapping[str, Attempts | None]) -> None:
    """None: it answered."""
    for server_name, attempts in changes.items():
        if attempts is None:
            cursor.later("DELETE FROM destinations WHERE server_name = ?", (server_name,))
    cursor.insert_many(
        "destinations",
        ("server_name", "failures", "retry_at_ts"),
        [
            (server_name, attempts.failures, attempts.retry_at_ts)
            for server_name, attempts in changes.items()
            if attempts is not None
        ],
        "ON CONFLICT (server_name) DO UPDATE SET failures = excluded.failures, retry_at_ts = excluded.retry_at_ts",
    )


def all_creditors(cursor: Cursor) -> list[str]:
    """Every server to which something is owed, of rooms or of people's devices."""
    names = cursor.execute("SELECT DISTINCT destination FROM owed").fetchall()
    names += cursor.execute("SELECT DISTINCT destination FROM owed_devices").fetchall()
    return sorted({name for (name,) in names})


def debts_to(cursor: Cursor, destination: str, limit: int) -> list[Debt]:
    """What is owed to a server, by room."""
    rows = cursor.execute(
        "SELECT o.room_nid, r.room_id, o.position FROM owed o JOIN rooms r ON r.nid = o.room_nid"
        " WHERE o.destination = ? ORDER BY o.room_nid LIMIT ?",
        (destination, limit),
    ).fetchall()
    return [Debt(*row) for row in rows]


def device_debts_to(cursor: Cursor, destination: str, limit: int) -> list[DeviceDebt]:
    """What a server is to hear of people's devices."""
    rows = cursor.execute(
        "SELECT user_id, position FROM owed_devices WHERE destination = ? ORDER BY user_id LIMIT ?",
        (destination, limit),
    ).fetchall()
    return [DeviceDebt(*row) for row in rows]


def owe_devices(cursor: Cursor, debts: Sequence[tuple[str, str, int]]) -> None:
    """Write down (destination, user id, position); where there is such a debt, the greater position counts."""
    merged: dict[tuple[str, str], int] = {}
    for destination, user_id, position in debts:
        merged[destination, user_id] = max(position, merged.get((destination, user_id), position))
    cursor.insert_many(
        "owed_devices",
        ("destination", "user_id", "position"),
        [(destination, user_id, position) for (destination, user_id), position in merged.items()],
        "ON CONFLICT (destination, user_id) DO UPDATE SET position ="
        " CASE WHEN excluded.position > owed_devices.position THEN excluded.position ELSE owed_devices.position END",
    )


def settle_devices(cursor: Cursor, debts: Sequence[tuple[str, str, int]]) -> None:
    """Forget that (destination) is to hear of (user id) up to (position)."""
    for debt in debts:
        cursor.later("DELETE FROM owed_devices WHERE destination = ? AND user_id = ? AND position <= ?", debt)


def owe(cursor: Cursor, debts: Sequence[tuple[str, str, int]]) -> None:
    """Write down (destination, room id, position); where there is such a debt, the greater position counts."""
    if not debts:
        return
    nids = _nids(cursor, {room_id for _, room_id, _ in debts})
    merged: dict[tuple[str, int], int] = {}
    for destination, room_id, position in debts:
        if (nid := nids.get(room_id)) is not None:
            merged[destination, nid] = max(position, merged.get((destination, nid), position))
    cursor.insert_many(
        "owed",
        ("destination", "room_nid", "position"),
        [(destination, nid, position) for (destination, nid), position in merged.items()],
        "ON CONFLICT (destination, room_nid) DO UPDATE SET position ="
        " CASE WHEN excluded.position > owed.position THEN excluded.position ELSE owed.position END",
    )


def settle(cursor: Cursor, debts: Sequence[tuple[str, str, int]]) -> None:
    """Forget what is owed to (destination, room id) up to (position)."""
    if not debts:
        return
    nids = _nids(cursor, {room_id for _, room_id, _ in debts})
    for destination, room_id, position in debts:
        if (nid := nids.get(room_id)) is not None:
            cursor.later(
                "DELETE FROM owed WHERE destination = ? AND room_nid = ? AND position <= ?",
                (destination, nid, position),
            )


def clear(cursor: Cursor, destinations: Iterable[str]) -> None:
    """Nothing is owed to these servers."""
    for destination in destinations:
        cursor.later("DELETE FROM owed WHERE destination = ?", (destination,))
        cursor.later("DELETE FROM owed_devices WHERE destination = ?", (destination,))


def unsent(cursor: Cursor, server_name: str, after: int, upto: int) -> list[Unsent]:
    """Rooms with events between two positions that were for this server to tell: those of its own people.

    Member events of others count too, since their servers may have left it to this one to spread them. Looks at every
    room, and at the events in question.
    """
    found = []
    for nid, room_id in cursor.execute(
        "SELECT nid, room_id FROM rooms WHERE newest > ? ORDER BY nid", (after,)
    ).fetchall():
        rows = cursor.execute(
            "SELECT position, sender_nid, key_nid, membership FROM events"
            " WHERE room_nid = ? AND position > ? AND position <= ? AND flags = 0 ORDER BY position DESC LIMIT ?",
            (nid, after, upto, MOST_LOOKED_AT),
        ).fetchall()
        wanted = {row[1] for row in rows} | {row[2] for row in rows if row[3] is not None}
        texts = strings.texts_of(cursor, wanted)
        newest = 0
        departed: dict[str, int] = {}
        for position, sender_nid, key_nid, membership in reversed(rows):
            is_own = server_of(texts[sender_nid]) == server_name
            if membership in _GONE:
                told = position if is_own else newest
                server = server_of(texts[key_nid])
                if told and server != server_name:
                    departed[server] = told
            if is_own or membership is not None:
                newest = position
        if newest:
            found.append(Unsent(nid, room_id, newest, departed))
    return found


def _nids(cursor: Cursor, room_ids: set[str]) -> dict[str, int]:
    condition, parameters = among(cursor, "room_id", sorted(room_ids))
    return dict(cursor.execute(f"SELECT room_id, nid FROM rooms WHERE {condition}", parameters).fetchall())

"""How much rooms are used: counters by room and day, which grow with what happens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from storage.ports import Cursor
from storage.sql import among

UPTO: Final = "activity_upto"
KEPT_DAYS: Final = 2
"""For so long it is known who was counted: later than that nothing is counted any more for a day."""

Key = tuple[int, int]
"""Room (nid) and day (since 1970)."""


class Tally(msgspec.Struct, frozen=True, gc=False):
    """What happened in a room on a day."""

    messages: int = 0
    active: int = 0
    joins: int = 0
    leaves: int = 0

    def plus(self, *, messages: int = 0, active: int = 0, joins: int = 0, leaves: int = 0) -> Tally:
        return Tally(self.messages + messages, self.active + active, self.joins + joins, self.leaves + leaves)


NOTHING: Final = Tally()


def write(cursor: Cursor, tallies: Mapping[Key, Tally], people: Iterable[tuple[int, int, str]], upto: int) -> None:
    """Add to the counters, and note that everything up to a position is counted. For the writer only.

    `people`: day, room and user of who said something; whoever is counted there already does not count again.
    """
    whole = dict(tallies)
    for day, room_nid, user_id in people:
        cursor.execute(
            "INSERT INTO activity_people (day, room_nid, user_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (day, room_nid, user_id),
        )
        if cursor.rowcount == 1:
            key = (room_nid, day)
            whole[key] = whole.get(key, NOTHING).plus(active=1)
    for (room_nid, day), tally in whole.items():
        cursor.later(
            "INSERT INTO activity (room_nid, day, messages, active, joins, leaves) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (room_nid, day) DO UPDATE SET messages = activity.messages + excluded.messages,"
            " active = activity.active + excluded.active, joins = activity.joins + excluded.joins,"
            " leaves = activity.leaves + excluded.leaves",
            (room_nid, day, *msgspec.structs.astuple(tally)),
        )
    cursor.later(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (UPTO, str(upto)),
    )


def upto(cursor: Cursor) -> int | None:
    """Up to which position everything is counted; None where counting has yet to begin."""
    row = cursor.execute("SELECT value FROM meta WHERE key = ?", (UPTO,)).fetchone()
    return None if row is None else int(row[0])


def forget_people(cursor: Cursor, before_day: int) -> None:
    """For the writer only."""
    cursor.later("DELETE FROM activity_people WHERE day < ?", (before_day,))


def read(cursor: Cursor, room_nids: Collection[int], first_day: int, last_day: int) -> dict[Key, Tally]:
    """What happened in some rooms on some days; those on which nothing did are left out."""
    if not room_nids:
        return {}
    condition, parameters = among(cursor, "room_nid", list(room_nids))
    rows = cursor.execute(
        "SELECT room_nid, day, messages, active, joins, leaves FROM activity"
        f" WHERE {condition} AND day >= ? AND day <= ?",
        (*parameters, first_day, last_day),
    ).fetchall()
    return {(room_nid, day): Tally(*counts) for room_nid, day, *counts in rows}

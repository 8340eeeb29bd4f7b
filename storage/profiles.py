"""What people tell everybody about themselves: named fields, each any JSON.

Spec: https://spec.matrix.org/v1.19/client-server-api/#profiles
"""

from __future__ import annotations

from collections.abc import Sequence

from storage import media_refs, strings
from storage.memberships import NUMBERS, joined_rooms
from storage.ports import Cursor
from storage.sql import among

Field = tuple[str, str, bytes | None]
"""Whose, which, and its JSON; None where there is no such field any more."""
Keys = Sequence[str] | None
"""Which fields; None: any."""


def read(cursor: Cursor, user_id: str) -> dict[str, bytes]:
    """All fields as JSON texts, by key; empty also for someone who is not known here."""
    rows = cursor.execute("SELECT key, value FROM profiles WHERE user_id = ? ORDER BY key", (user_id,)).fetchall()
    return {key: bytes(value) for key, value in rows}


def put(cursor: Cursor, user_id: str, key: str, value: bytes, max_bytes: int) -> bool:
    """Set a field to a JSON text. False, and nothing done, if the whole profile would pass `max_bytes` as JSON."""
    row = cursor.execute(
        "SELECT COALESCE(SUM(LENGTH(key) + LENGTH(value) + 4), 0) FROM profiles WHERE user_id = ? AND key <> ?",
        (user_id, key),
    ).fetchone()
    assert row is not None
    # Each field costs two quotes, a colon and a comma; the braces cost one more than the comma that is too much.
    if int(row[0]) + len(key) + len(value) + 5 > max_bytes:
        return False
    cursor.later(
        "INSERT INTO profiles (user_id, key, value) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value",
        (user_id, key, value),
    )
    media_refs.hold_profile(cursor, user_id, key, value)
    return True


def delete(cursor: Cursor, user_id: str, key: str) -> bool:
    """Remove a field. False if it is not there."""
    cursor.execute("DELETE FROM profiles WHERE user_id = ? AND key = ?", (user_id, key))
    is_gone = cursor.rowcount > 0
    media_refs.release_profile(cursor, user_id, key)
    return is_gone


def delete_all(cursor: Cursor, user_id: str) -> None:
    """The account is no more."""
    cursor.later("DELETE FROM profiles WHERE user_id = ?", (user_id,))
    cursor.later("DELETE FROM profile_changes WHERE user_id = ?", (user_id,))
    media_refs.release_profile(cursor, user_id)


# -- what clients are told of changes ------------------------------------------------------------------------------


def mark(cursor: Cursor, user_id: str, key: str, position: int) -> None:
    """A field was set, changed or removed."""
    cursor.later(
        "INSERT INTO profile_changes (user_id, key, position) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, key) DO UPDATE SET position = excluded.position",
        (user_id, key, position),
    )


def changed_for(
    cursor: Cursor, user_id: str, room_nids: Sequence[int], keys: Keys, after: int, upto: int
) -> list[Field]:
    """Fields that changed after one position and up to another: somebody's own, and those of who is in the rooms."""
    condition, parameters = _narrow(cursor, "c.key", keys)
    fields: list[Field] = [
        (owner, key, None if value is None else bytes(value))
        for owner, key, value in cursor.execute(
            "SELECT c.user_id, c.key, p.value FROM profile_changes c"
            " LEFT JOIN profiles p ON p.user_id = c.user_id AND p.key = c.key"
            f" WHERE c.position > ? AND c.position <= ?{condition} ORDER BY c.position",
            [after, upto, *parameters],
        ).fetchall()
    ]
    rooms = frozenset(room_nids)
    where = joined_rooms(cursor, {owner for owner, _, _ in fields})
    return [field for field in fields if field[0] == user_id or not rooms.isdisjoint(where.get(field[0], frozenset()))]


def fields_of(cursor: Cursor, user_ids: Sequence[str], keys: Keys) -> list[Field]:
    """Some fields of some people, as they are."""
    if not user_ids:
        return []
    people, parameters = among(cursor, "user_id", user_ids)
    condition, more = _narrow(cursor, "key", keys)
    rows = cursor.execute(
        f"SELECT user_id, key, value FROM profiles WHERE {people}{condition}", [*parameters, *more]
    ).fetchall()
    return [(owner, key, bytes(value)) for owner, key, value in rows]


def fields_around(cursor: Cursor, user_id: str, room_nids: Sequence[int], keys: Keys, server_name: str) -> list[Field]:
    """The same of somebody and of all people of this server who are in any of the rooms."""
    people = {user_id}
    if room_nids:
        condition, parameters = among(cursor, "room_nid", room_nids)
        rows = cursor.execute(
            f"SELECT DISTINCT user_nid FROM memberships WHERE {condition} AND membership = ?",
            [*parameters, NUMBERS["join"]],
        ).fetchall()
        texts = strings.texts_of(cursor, {nid for (nid,) in rows})
        people.update(text for text in texts.values() if text.endswith(":" + server_name))
    return fields_of(cursor, sorted(people), keys)


def _narrow(cursor: Cursor, column: str, keys: Keys) -> tuple[str, list[object]]:
    if keys is None:
        return "", []
    if not keys:
        return " AND 1 = 0", []
    condition, parameters = among(cursor, column, keys)
    return f" AND {condition}", parameters

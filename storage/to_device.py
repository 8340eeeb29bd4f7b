"""Messages from device to device: those that wait for devices here, and those that wait for other servers to take them.

to_device      user_id  device_id  position  sender  json
               @a:x     PHONE      4711      @b:x    {"content":{…},"sender":"@b:x","type":"m.room_key"}
to_device_out  destination   position  json
               peer.example  4712      {"content":{"message_id":…,…},"edu_type":"m.direct_to_device"}

At one position, a device gets at most one message and a server at most one EDU.

Spec: https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging
Spec: https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from storage.ports import Cursor
from storage.sql import among, to_blob


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A message for one device of this server."""

    user_id: str
    device_id: str
    sender: str
    json: bytes


class Weight(msgspec.Struct, frozen=True, gc=False):
    """What one that waits weighs."""

    position: int
    size_bytes: int
    sender: str


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """One that waits."""

    position: int
    json: bytes


# -- for devices here ---------------------------------------------------------------------------------------------


def put(cursor: Cursor, letters: Sequence[Letter], position: int) -> None:
    cursor.insert_many(
        "to_device",
        ("user_id", "device_id", "position", "sender", "json"),
        [(one.user_id, one.device_id, position, one.sender, one.json) for one in letters],
    )


def waiting(cursor: Cursor, user_id: str, device_id: str, after: int, upto: int, limit: int) -> list[Waiting]:
    """The messages for a device after one position and up to another, oldest first."""
    rows = cursor.execute(
        "SELECT position, json FROM to_device WHERE user_id = ? AND device_id = ? AND position > ? AND position <= ?"
        " ORDER BY position LIMIT ?",
        (user_id, device_id, after, upto, limit),
    ).fetchall()
    return [Waiting(position, bytes(json)) for position, json in rows]


def newest(cursor: Cursor, user_id: str, device_id: str) -> int:
    """The position of the newest message that waits for a device; 0 where none does."""
    row = cursor.execute(
        "SELECT MAX(position) FROM to_device WHERE user_id = ? AND device_id = ?", (user_id, device_id)
    ).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def weights(cursor: Cursor, user_id: str, device_id: str) -> list[Weight]:
    """All that waits for a device, oldest first."""
    rows = cursor.execute(
        "SELECT position, LENGTH(json), sender FROM to_device WHERE user_id = ? AND device_id = ? ORDER BY position",
        (user_id, device_id),
    ).fetchall()
    return [Weight(*row) for row in rows]


def delete(cursor: Cursor, user_id: str, device_id: str, upto: int) -> None:
    """A device has them up to there."""
    cursor.later(
        "DELETE FROM to_device WHERE user_id = ? AND device_id = ? AND position <= ?", (user_id, device_id, upto)
    )


def delete_some(cursor: Cursor, user_id: str, device_id: str, positions: Collection[int]) -> None:
    for position in positions:
        cursor.later(
            "DELETE FROM to_device WHERE user_id = ? AND device_id = ? AND position = ?",
            (user_id, device_id, position),
        )


def devices_of(cursor: Cursor, user_ids: Collection[str]) -> dict[str, list[str]]:
    """The devices of some people here: those that messages may be for."""
    if not user_ids:
        return {}
    condition, parameters = among(cursor, "user_id", sorted(user_ids))
    found: dict[str, list[str]] = {}
    for user_id, device_id in cursor.execute(
        f"SELECT user_id, device_id FROM devices WHERE {condition} ORDER BY user_id, device_id", parameters
    ).fetchall():
        found.setdefault(user_id, []).append(device_id)
    return found


# -- from other servers -------------------------------------------------------------------------------------------


def see(cursor: Cursor, origin: str, message_id: str, now_ms: int) -> bool:
    """Note that a server delivered a message. False where it did so before."""
    cursor.execute(
        "INSERT INTO to_device_seen (origin, message_id, ts) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (origin, to_blob(message_id), now_ms),
    )
    return cursor.rowcount == 1


def forget_seen(cursor: Cursor, before_ts: int) -> None:
    cursor.later("DELETE FROM to_device_seen WHERE ts < ?", (before_ts,))


# -- for other servers --------------------------------------------------------------------------------------------


def post(cursor: Cursor, destination: str, position: int, json: bytes) -> None:
    cursor.insert_many("to_device_out", ("destination", "position", "json"), [(destination, position, json)])


def posted(cursor: Cursor, destination: str, limit: int) -> list[Waiting]:
    """What a server is to be told first, in its order."""
    rows = cursor.execute(
        "SELECT position, json FROM to_device_out WHERE destination = ? ORDER BY position LIMIT ?",
        (destination, limit),
    ).fetchall()
    return [Waiting(position, bytes(json)) for position, json in rows]


def delete_posted(cursor: Cursor, destination: str, upto: int) -> None:
    """A server has them up to there, or won't ever."""
    cursor.later("DELETE FROM to_device_out WHERE destination = ? AND position <= ?", (destination, upto))


def destinations(cursor: Cursor) -> list[str]:
    """The servers that are to be told something."""
    rows = cursor.execute("SELECT DISTINCT destination FROM to_device_out ORDER BY destination").fetchall()
    return [destination for (destination,) in rows]

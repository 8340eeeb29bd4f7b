"""One-time keys, each given out once, and the fallback keys that stand in when there are none left.

Spec: https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage.ports import Cursor

REMEMBERED_MS = 7 * 24 * 60 * 60_000
"""How long the id of a key that was given out is known: who uploads it again did not hear that it had come."""


class PublicKey(msgspec.Struct, frozen=True, gc=False):
    """A one-time or fallback key."""

    algorithm: str
    key_id: str
    """Without the algorithm."""
    json: bytes

    @property
    def name(self) -> str:
        return f"{self.algorithm}:{self.key_id}"


class KeyStock(msgspec.Struct, frozen=True):
    """What a device has left."""

    counts: dict[str, int]
    """One-time keys by algorithm; an algorithm without any may be left out."""
    unused_fallback: tuple[str, ...]
    """Algorithms with a fallback key that was not given out yet, in their order."""


def stock_of(cursor: Cursor, user_id: str, device_id: str) -> KeyStock:
    """What can be claimed of a device."""
    counts = cursor.execute(
        "SELECT algorithm, COUNT(*) FROM one_time_keys WHERE user_id = ? AND device_id = ? AND json IS NOT NULL"
        " GROUP BY algorithm ORDER BY algorithm",
        (user_id, device_id),
    ).fetchall()
    unused = cursor.execute(
        "SELECT algorithm FROM fallback_keys WHERE user_id = ? AND device_id = ? AND used = 0 ORDER BY algorithm",
        (user_id, device_id),
    ).fetchall()
    return KeyStock(dict(counts), tuple(algorithm for (algorithm,) in unused))


def known_keys(cursor: Cursor, user_id: str, device_id: str) -> dict[tuple[str, str], bytes | None]:
    """(algorithm, key id) → the key; None where it was given out."""
    rows = cursor.execute(
        "SELECT algorithm, key_id, json FROM one_time_keys WHERE user_id = ? AND device_id = ?", (user_id, device_id)
    ).fetchall()
    return {(algorithm, key_id): None if json is None else bytes(json) for algorithm, key_id, json in rows}


def add_keys(
    cursor: Cursor, user_id: str, device_id: str, keys: Sequence[PublicKey], ordinal: int, now_ms: int
) -> None:
    """Add keys whose ids are not there yet; `ordinal` is greater than that of every upload before.

    What was given out long ago is forgotten.
    """
    cursor.later(
        "DELETE FROM one_time_keys WHERE user_id = ? AND device_id = ? AND given_ts < ?",
        (user_id, device_id, now_ms - REMEMBERED_MS),
    )
    cursor.insert_many(
        "one_time_keys",
        ("user_id", "device_id", "algorithm", "key_id", "ordinal", "json"),
        [(user_id, device_id, key.algorithm, key.key_id, ordinal, key.json) for key in keys],
    )


def put_fallback(cursor: Cursor, user_id: str, device_id: str, key: PublicKey) -> None:
    """Set the device's fallback key of an algorithm. The same one again stays as used as it is."""
    cursor.later(
        "INSERT INTO fallback_keys (user_id, device_id, algorithm, key_id, json, used) VALUES (?, ?, ?, ?, ?, 0)"
        " ON CONFLICT (user_id, device_id, algorithm) DO UPDATE SET used = CASE WHEN"
        " fallback_keys.key_id = excluded.key_id AND fallback_keys.json = excluded.json"
        " THEN fallback_keys.used ELSE 0 END, key_id = excluded.key_id, json = excluded.json",
        (user_id, device_id, key.algorithm, key.key_id, key.json),
    )


def claim(cursor: Cursor, user_id: str, device_id: str, algorithm: str, now_ms: int) -> tuple[PublicKey, bool] | None:
    """Give out a key: the one-time key that was uploaded first, or else the fallback key, and whether it is that.

    None where there is neither.
    """
    row = cursor.execute(
        "SELECT key_id, json FROM one_time_keys WHERE user_id = ? AND device_id = ? AND algorithm = ?"
        " AND json IS NOT NULL ORDER BY ordinal LIMIT 1",
        (user_id, device_id, algorithm),
    ).fetchone()
    if row is not None:
        cursor.later(
            "UPDATE one_time_keys SET json = NULL, given_ts = ?"
            " WHERE user_id = ? AND device_id = ? AND algorithm = ? AND key_id = ?",
            (now_ms, user_id, device_id, algorithm, row[0]),
        )
        return PublicKey(algorithm, row[0], bytes(row[1])), False
    row = cursor.execute(
        "SELECT key_id, json FROM fallback_keys WHERE user_id = ? AND device_id = ? AND algorithm = ?",
        (user_id, device_id, algorithm),
    ).fetchone()
    if row is None:
        return None
    cursor.later(
        "UPDATE fallback_keys SET used = 1 WHERE user_id = ? AND device_id = ? AND algorithm = ?",
        (user_id, device_id, algorithm),
    )
    return PublicKey(algorithm, row[0], bytes(row[1])), True

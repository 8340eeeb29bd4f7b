"""Dehydrated devices: one a person, which waits on the server for a client to wake it up.

MSC3814
"""

from __future__ import annotations

import msgspec

from storage.ports import Cursor


class Dehydrated(msgspec.Struct, frozen=True, gc=False):
    device_id: str
    data: bytes
    """JSON that only its owner can make sense of."""


def get(cursor: Cursor, user_id: str) -> Dehydrated | None:
    row = cursor.execute("SELECT device_id, data FROM dehydrated_devices WHERE user_id = ?", (user_id,)).fetchone()
    return None if row is None else Dehydrated(row[0], bytes(row[1]))


def put(cursor: Cursor, user_id: str, device: Dehydrated, display_name: str | None) -> None:
    """The one before, if any, must be gone. Nobody is logged in as it."""
    cursor.later(
        "INSERT INTO devices (user_id, device_id, display_name) VALUES (?, ?, ?)",
        (user_id, device.device_id, display_name),
    )
    cursor.later(
        "INSERT INTO dehydrated_devices (user_id, device_id, data) VALUES (?, ?, ?)",
        (user_id, device.device_id, device.data),
    )

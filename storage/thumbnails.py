"""Smaller forms of pictures, made when they were first asked for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage import loose_files
from storage.media import MediaKey
from storage.ports import Cursor


class Size(msgspec.Struct, frozen=True, gc=False):
    """Which form of a picture: on the ladder of sizes, not the pixels that it has."""

    width: int
    height: int
    method: str
    """`crop` or `scale`."""
    animated: bool


class Thumbnail(msgspec.Struct, frozen=True, gc=False):
    """One that is in the store."""

    size: Size
    type: str
    size_bytes: int
    file: str


def find(cursor: Cursor, key: MediaKey, size: Size) -> Thumbnail | None:
    row = cursor.execute(
        "SELECT type, size_bytes, file FROM thumbnails WHERE origin = ? AND media_id = ? AND width = ? AND height = ?"
        " AND method = ? AND animated = ?",
        (*key, size.width, size.height, size.method, int(size.animated)),
    ).fetchone()
    return None if row is None else Thumbnail(size, *row)


def add(cursor: Cursor, key: MediaKey, thumbnails: Sequence[Thumbnail]) -> None:
    """Enter what is in the store. Those of a file that is gone meanwhile, or that are there already, stay loose."""
    if cursor.execute("SELECT 1 FROM media WHERE origin = ? AND media_id = ?", key).fetchone() is None:
        return
    for one in thumbnails:
        if find(cursor, key, one.size) is None:
            values = (one.size.width, one.size.height, one.size.method, int(one.size.animated))
            cursor.later(
                "INSERT INTO thumbnails (origin, media_id, width, height, method, animated, type, size_bytes, file)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, *values, one.type, one.size_bytes, one.file),
            )
            loose_files.take(cursor, one.file)


def delete_file(cursor: Cursor, key: MediaKey, file: str, now: int) -> None:
    """Forget the one that the store calls so; it can be deleted there from `now` on."""
    cursor.execute("DELETE FROM thumbnails WHERE origin = ? AND media_id = ? AND file = ?", (*key, file))
    if cursor.rowcount:
        loose_files.put(cursor, [file], now)

"""Files in the store that belong to nothing: how a crash leaves none behind.

    to be written      put, hours ahead ──> written to the store ──> taken, in the transaction that enters it
    not wanted         put, in the transaction that forgets it ──> deleted from the store ──> dropped

So every file that is in the store is entered somewhere or stands here, at every moment.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.ports import Cursor
from storage.sql import among


def put(cursor: Cursor, files: Sequence[str], after_ts: int) -> None:
    """They belong to nothing, and can be deleted from that time on."""
    cursor.insert_many("loose_files", ("file", "after_ts"), [(file, after_ts) for file in files], _SOONER)


_SOONER = "ON CONFLICT (file) DO UPDATE SET after_ts = excluded.after_ts"


def take(cursor: Cursor, file: str) -> None:
    """It belongs to something now, in this transaction."""
    cursor.later("DELETE FROM loose_files WHERE file = ?", (file,))


def due(cursor: Cursor, now: int, limit: int = 500) -> list[str]:
    """What can be deleted now."""
    rows = cursor.execute(
        "SELECT file FROM loose_files WHERE after_ts <= ? ORDER BY after_ts LIMIT ?", (now, limit)
    ).fetchall()
    return [file for (file,) in rows]


def unknown(cursor: Cursor, files: Sequence[str]) -> list[str]:
    """Those that are neither entered anywhere nor loose: a backup may bring such along."""
    left = set(files)
    for table in ("media", "thumbnails", "loose_files"):
        if left:
            condition, parameters = among(cursor, "file", sorted(left))
            left -= {
                file for (file,) in cursor.execute(f"SELECT file FROM {table} WHERE {condition}", parameters).fetchall()
            }
    return sorted(left)


def drop(cursor: Cursor, files: Sequence[str]) -> None:
    """They are deleted."""
    for file in files:
        take(cursor, file)

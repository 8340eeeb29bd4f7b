"""What web pages were about when somebody last asked."""

from __future__ import annotations

import msgspec

from storage import media_refs
from storage.ports import Cursor


class Preview(msgspec.Struct, frozen=True, gc=False):
    """The answer for one URL in one language."""

    expires_ts: int
    answer: bytes
    """JSON, as it is given to clients."""
    image: str | None
    """Media id of its picture, which was fetched for it."""


def find(cursor: Cursor, key: bytes, now: int) -> Preview | None:
    """One that is still good. `key` is the SHA-256 of language and URL."""
    row = cursor.execute(
        "SELECT expires_ts, answer, image FROM url_previews WHERE key = ? AND expires_ts > ?", (key, now)
    ).fetchone()
    return None if row is None else Preview(row[0], bytes(row[1]), row[2])


def put(cursor: Cursor, key: bytes, preview: Preview, now: int) -> None:
    """Keep one, in place of what was there."""
    old = cursor.execute("SELECT image FROM url_previews WHERE key = ?", (key,)).fetchone()
    if old is not None and old[0] is not None and old[0] != preview.image:
        media_refs.delete_unheld(cursor, [old[0]], now)
    cursor.later(
        "INSERT INTO url_previews (key, expires_ts, answer, image) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
        " SET expires_ts = excluded.expires_ts, answer = excluded.answer, image = excluded.image",
        (key, preview.expires_ts, preview.answer, preview.image),
    )


def delete_expired(cursor: Cursor, now: int, limit: int = 500) -> int:
    """Forget those that are no longer good, with their pictures, unless somebody sent those on. How many there were."""
    rows = cursor.execute(
        "SELECT key, image FROM url_previews WHERE expires_ts <= ? ORDER BY expires_ts LIMIT ?", (now, limit)
    ).fetchall()
    for key, _ in rows:
        cursor.later("DELETE FROM url_previews WHERE key = ?", (bytes(key),))
    media_refs.delete_unheld(cursor, [image for _, image in rows if image is not None], now)
    return len(rows)

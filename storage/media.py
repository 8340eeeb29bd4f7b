"""What is known of people's files: each mxc:// URI that was made here or fetched from elsewhere.

    made first, uploaded later     create ──> fill ─┐
    uploaded at once               add ─────────────┼──> get … touch … ──> delete: its files are loose now
    fetched, or made here          add ─────────────┘

Spec: https://spec.matrix.org/v1.19/client-server-api/#content-repository
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgspec
from msgspec.structs import replace

from storage import loose_files
from storage.ports import Cursor
from storage.sql import from_blob, from_blob_or_none, to_blob

MediaKey = tuple[str, str]
"""Origin and media id."""


class Medium(msgspec.Struct, frozen=True, gc=False):
    """One file, or the place for one."""

    origin: str
    media_id: str
    user_id: str | None
    """Who uploaded it here; None for other servers' and for pictures of previews."""
    created_ts: int
    expires_ts: int | None
    """Until when it must be uploaded; None once it is here."""
    used_ts: int
    size_bytes: int
    type: str
    name: str | None
    sha256: bytes | None
    """Of its bytes, where it was ever asked for: see Quarantine below."""
    file: str | None
    """What the store calls it; None until it is here."""
    is_open: bool
    """Anybody may have it, without a token."""
    quarantined_by: str | None = None
    facts: bytes | None = None
    """JSON: what looking into it has found."""

    @property
    def key(self) -> MediaKey:
        return self.origin, self.media_id


class Quota(msgspec.Struct, frozen=True, gc=False):
    """How much one user may have here in all; None is no limit."""

    most_bytes: int | None
    most_files: int | None


class Added(Enum):
    """What became of a file that was to be entered."""

    DONE = "done"
    KNOWN = "there is one of that name already"
    UNKNOWN = "nobody made a place for it, or too long ago"
    NOT_YOURS = "somebody else made the place for it"
    OVER_QUOTA = "the user has too much already"
    ALIKE = "something in quarantine is as long: its SHA-256 must be known first"


_COLUMNS = (
    "origin",
    "media_id",
    "user_id",
    "created_ts",
    "expires_ts",
    "used_ts",
    "size_bytes",
    "type",
    "name",
    "sha256",
    "file",
    "is_open",
    "quarantined_by",
    "facts",
)
_ALL = ", ".join(_COLUMNS)


def get(cursor: Cursor, origin: str, media_id: str) -> Medium | None:
    row = cursor.execute(f"SELECT {_ALL} FROM media WHERE origin = ? AND media_id = ?", (origin, media_id)).fetchone()
    return None if row is None else _medium(row)


def create(cursor: Cursor, medium: Medium, most_pending: int) -> int | None:
    """Make a place for a file that its user will upload. If too many of the user's are empty: when the first expires.

    `medium.expires_ts` is when this one does.
    """
    pending = cursor.execute(
        "SELECT expires_ts FROM media WHERE user_id = ? AND expires_ts > ? ORDER BY expires_ts",
        (medium.user_id, medium.created_ts),
    ).fetchall()
    if len(pending) >= most_pending:
        return int(pending[0][0])
    _insert(cursor, medium)
    return None


def add(cursor: Cursor, medium: Medium, quota: Quota | None = None) -> Added:
    """Enter a file that is in the store. Whatever is not DONE leaves it loose there."""
    place = get(cursor, *medium.key)
    if place is not None:
        if place.file is not None or place.expires_ts is not None:
            return Added.KNOWN
        # Only something about it was known: thumbnails of it, or that nobody may have it.
        medium = replace(medium, quarantined_by=place.quarantined_by)
    return _enter(cursor, medium, quota, has_place=place is not None)


def fill(cursor: Cursor, medium: Medium, quota: Quota | None = None) -> Added:
    """Put a file that is in the store in the place that was made for it. Whatever is not DONE leaves it loose there."""
    verdict = may_fill(cursor, medium.key, medium.user_id, medium.created_ts)
    if verdict is not Added.DONE:
        return verdict
    return _enter(cursor, medium, quota, has_place=True)


def may_fill(cursor: Cursor, key: MediaKey, user_id: str | None, now: int) -> Added:
    """Whether there is a place that this user may put a file in."""
    place = get(cursor, *key)
    if place is None:
        return Added.UNKNOWN
    if place.expires_ts is None:
        return Added.KNOWN
    if place.user_id != user_id:
        return Added.NOT_YOURS
    return Added.UNKNOWN if place.expires_ts <= now else Added.DONE


def usage(cursor: Cursor, user_id: str) -> tuple[int, int]:
    """How many bytes and files somebody has here."""
    row = cursor.execute(
        "SELECT COALESCE(SUM(size_bytes), 0), COUNT(*) FROM media WHERE user_id = ? AND expires_ts IS NULL", (user_id,)
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def cached_bytes(cursor: Cursor, origin: str) -> int:
    """How much is kept of other servers' files. `origin` is our own name."""
    row = cursor.execute(
        "SELECT COALESCE(SUM(size_bytes), 0) FROM media WHERE user_id IS NULL AND used_ts >= 0 AND origin <> ?",
        (origin,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def note_remote(cursor: Cursor, medium: Medium) -> None:
    """Know of another server's file that is not here, so that something can be kept about it."""
    if get(cursor, *medium.key) is None:
        _insert(cursor, medium)


def touch(cursor: Cursor, uses: Sequence[tuple[MediaKey, int]]) -> None:
    """When files were asked for."""
    for key, ts in uses:
        cursor.later("UPDATE media SET used_ts = ? WHERE origin = ? AND media_id = ?", (ts, *key))


def set_facts(cursor: Cursor, key: MediaKey, facts: bytes) -> None:
    """What looking into a file has found, as JSON."""
    cursor.later("UPDATE media SET facts = ? WHERE origin = ? AND media_id = ?", (facts, *key))


def delete(cursor: Cursor, keys: Sequence[MediaKey], now: int) -> int:
    """Forget files, with all that was made of them. They can be deleted from the store from `now` on. How many were."""
    found = 0
    for key in keys:
        rows = cursor.execute("SELECT file FROM media WHERE origin = ? AND media_id = ?", key).fetchall()
        found += len(rows)
        rows += cursor.execute("SELECT file FROM thumbnails WHERE origin = ? AND media_id = ?", key).fetchall()
        loose_files.put(cursor, [file for (file,) in rows if file is not None], now)
        cursor.later("DELETE FROM thumbnails WHERE origin = ? AND media_id = ?", key)
        cursor.later("DELETE FROM transcripts WHERE origin = ? AND media_id = ?", key)
        cursor.later("DELETE FROM media WHERE origin = ? AND media_id = ?", key)
    return found


def delete_expired(cursor: Cursor, before_ts: int) -> None:
    """Forget places that nobody put a file in, and that expired before then."""
    cursor.later("DELETE FROM media WHERE expires_ts < ?", (before_ts,))


# Whose, and since when nobody asked for them


def of_user(cursor: Cursor, user_id: str, after: str = "", limit: int = 1000) -> list[Medium]:
    """What somebody uploaded, by media id: a page at a time, the last one's id being the next call's `after`."""
    rows = cursor.execute(
        f"SELECT {_ALL} FROM media WHERE user_id = ? AND media_id > ? ORDER BY media_id LIMIT ?",
        (user_id, after, limit),
    ).fetchall()
    return [_medium(row) for row in rows]


def unused_remote(cursor: Cursor, origin: str, before_ts: int, limit: int = 1000) -> list[Medium]:
    """Other servers' files that nobody asked for since, the longest first. `origin` is our own name."""
    rows = cursor.execute(
        f"SELECT {_ALL} FROM media WHERE user_id IS NULL AND used_ts < ? AND origin <> ? AND quarantined_by IS NULL"
        " ORDER BY used_ts LIMIT ?",
        (before_ts, origin, limit),
    ).fetchall()
    return [_medium(row) for row in rows]


def unused_local(cursor: Cursor, before_ts: int, limit: int = 1000) -> list[Medium]:
    """Files uploaded here that nobody asked for since, the longest first; without those that are somebody's picture,
    and those that a room's state or somebody's account data names: they are shown without being asked for."""
    rows = cursor.execute(
        f"SELECT {_ALL} FROM media m WHERE user_id IS NOT NULL AND used_ts < ? AND expires_ts IS NULL"
        " AND quarantined_by IS NULL AND NOT EXISTS (SELECT 1 FROM media_refs r WHERE r.media_id = m.media_id"
        " AND r.holder NOT LIKE 'e%') ORDER BY used_ts LIMIT ?",
        (before_ts, limit),
    ).fetchall()
    return [_medium(row) for row in rows]


# Quarantine. What has the bytes of something there goes there too. Only of what is as long to the byte as something in
# quarantine is that asked; only of those, and of what they are held against, is a digest ever made.


def quarantine(cursor: Cursor, keys: Sequence[MediaKey], by: str | None) -> int:
    """Keep files from everybody, because somebody says so; None lets them out again. How many of them are known."""
    found = 0
    for key in keys:
        cursor.execute("UPDATE media SET quarantined_by = ? WHERE origin = ? AND media_id = ?", (by, *key))
        found += cursor.rowcount
    return found


def is_alike(cursor: Cursor, size_bytes: int) -> bool:
    """Whether a file of this length is in quarantine."""
    row = cursor.execute(
        "SELECT 1 FROM media WHERE size_bytes = ? AND quarantined_by IS NOT NULL AND file IS NOT NULL LIMIT 1",
        (size_bytes,),
    ).fetchone()
    return row is not None


def undigested(cursor: Cursor, size_bytes: int) -> list[Medium]:
    """Files of this length in quarantine whose digest nobody has asked for yet."""
    rows = cursor.execute(
        f"SELECT {_ALL} FROM media WHERE size_bytes = ? AND quarantined_by IS NOT NULL AND file IS NOT NULL"
        " AND sha256 IS NULL",
        (size_bytes,),
    ).fetchall()
    return [_medium(row) for row in rows]


def set_digest(cursor: Cursor, key: MediaKey, sha256: bytes) -> None:
    """What the SHA-256 of a file's bytes is."""
    cursor.later("UPDATE media SET sha256 = ? WHERE origin = ? AND media_id = ?", (sha256, *key))


def who_quarantined(cursor: Cursor, size_bytes: int, sha256: bytes) -> str | None:
    """Whether a file of the same bytes is in quarantine, and who put it there."""
    row = cursor.execute(
        "SELECT quarantined_by FROM media WHERE size_bytes = ? AND sha256 = ? AND quarantined_by IS NOT NULL LIMIT 1",
        (size_bytes, sha256),
    ).fetchone()
    return None if row is None else str(row[0])


def _enter(cursor: Cursor, medium: Medium, quota: Quota | None, *, has_place: bool) -> Added:
    if not _fits(cursor, medium, quota):
        return Added.OVER_QUOTA
    if medium.quarantined_by is None:
        if medium.sha256 is not None:
            by = who_quarantined(cursor, medium.size_bytes, medium.sha256)
            medium = replace(medium, quarantined_by=by)
        elif is_alike(cursor, medium.size_bytes):
            return Added.ALIKE
    assert medium.file is not None
    if has_place:
        cursor.later("DELETE FROM media WHERE origin = ? AND media_id = ?", medium.key)
    _insert(cursor, medium)
    loose_files.take(cursor, medium.file)
    return Added.DONE


def _fits(cursor: Cursor, medium: Medium, quota: Quota | None) -> bool:
    if quota is None or medium.user_id is None or (quota.most_bytes is None and quota.most_files is None):
        return True
    size_bytes, files = usage(cursor, medium.user_id)
    if quota.most_files is not None and files >= quota.most_files:
        return False
    return quota.most_bytes is None or size_bytes + medium.size_bytes <= quota.most_bytes


def _insert(cursor: Cursor, medium: Medium) -> None:
    row = (
        medium.origin,
        medium.media_id,
        medium.user_id,
        medium.created_ts,
        medium.expires_ts,
        medium.used_ts,
        medium.size_bytes,
        to_blob(medium.type),
        None if medium.name is None else to_blob(medium.name),
        medium.sha256,
        medium.file,
        int(medium.is_open),
        medium.quarantined_by,
        medium.facts,
    )
    cursor.later(f"INSERT INTO media ({_ALL}) VALUES ({', '.join('?' * len(row))})", row)


def _medium(row: tuple[Any, ...]) -> Medium:
    origin, media_id, user_id, created, expires, used, size, kind, name, sha256, file, is_open, by, facts = row
    return Medium(
        origin,
        media_id,
        user_id,
        created,
        expires,
        used,
        size,
        from_blob(kind),
        from_blob_or_none(name),
        None if sha256 is None else bytes(sha256),
        file,
        bool(is_open),
        by,
        None if facts is None else bytes(facts),
    )

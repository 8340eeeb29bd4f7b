"""What names files of this server, so that a file goes when its uploader takes back the last thing that named it.

It is an index over what others store, and kept by them in the same transaction: the writing of events and their
redaction, profiles, account data. Why it is so: docs/decisions/0006-media-and-what-names-it.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from storage import media
from storage.ports import Cursor

_URI = re.compile(rb"mxc://([A-Za-z0-9.:\[\]-]{1,255})/([A-Za-z0-9_-]{1,255})(?![A-Za-z0-9_-])")


def named_in(json: bytes) -> set[media.MediaKey]:
    """The files that a JSON text names. It is ours or canonical, so slashes are not escaped."""
    if b"mxc://" not in json:
        return set()
    return {(origin.decode(), media_id.decode()) for origin, media_id in _URI.findall(json)}


def own_in(cursor: Cursor, json: bytes) -> list[str]:
    """The ids of this server's files that a JSON text names."""
    if cursor.shared.own_uri not in json:
        return []
    own = cursor.shared.server_name
    return sorted(media_id for origin, media_id in named_in(json) if origin == own)


def hold_event(cursor: Cursor, nid: int, is_state: bool, raw: bytes) -> None:
    """An event is written."""
    if cursor.shared.own_uri in raw:
        _hold(cursor, _event(nid, is_state), own_in(cursor, raw))


def release_event(cursor: Cursor, nid: int, kept: bytes) -> None:
    """An event is about to be rewritten without what it said; `kept` is what is left of it.

    This server's files that nothing names any more are forgotten if the event was their uploader's: somebody else's
    word would let anybody delete anything. Copies of other servers' files are forgotten too; they can be had again.
    """
    row = cursor.execute(
        "SELECT e.raw, e.key_nid, s.value FROM events e JOIN strings s ON s.nid = e.sender_nid WHERE e.nid = ?", (nid,)
    ).fetchone()
    if row is None:
        return
    raw, key_nid, sender = row
    gone = named_in(bytes(raw)) - named_in(kept)
    if not gone:
        return
    own = cursor.shared.server_name
    ours = sorted(media_id for origin, media_id in gone if origin == own)
    for media_id in ours:
        cursor.later(
            "DELETE FROM media_refs WHERE holder = ? AND media_id = ?", (_event(nid, key_nid is not None), media_id)
        )
    unheld = [media_id for media_id in ours if not is_held(cursor, media_id)]
    forgotten = [(own, one) for one in unheld if _is_uploader(cursor, one, bytes(sender).decode())]
    copies = sorted(key for key in gone if key[0] != own)
    media.delete(cursor, [*forgotten, *(key for key in copies if not _is_kept_back(cursor, key))], 0)


def hold_profile(cursor: Cursor, user_id: str, key: str, value: bytes) -> None:
    """A field of a profile is set."""
    holder = f"p{user_id} {key}"
    cursor.later("DELETE FROM media_refs WHERE holder = ?", (holder,))
    _hold(cursor, holder, own_in(cursor, value))


def release_profile(cursor: Cursor, user_id: str, key: str | None = None) -> None:
    """A field of a profile is no more, or all of them."""
    if key is not None:
        cursor.later("DELETE FROM media_refs WHERE holder = ?", (f"p{user_id} {key}",))
    else:
        _release_all(cursor, f"p{user_id} ")


def hold_account_data(cursor: Cursor, user_id: str, room_nid: int, event_type: str, content: bytes) -> None:
    """A piece of account data that may name files is set."""
    digest = hashlib.sha256(event_type.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    holder = f"a{user_id} {room_nid} {digest}"
    cursor.later("DELETE FROM media_refs WHERE holder = ?", (holder,))
    _hold(cursor, holder, own_in(cursor, content))


def release_account_data(cursor: Cursor, user_id: str) -> None:
    """All of somebody's account data is no more."""
    _release_all(cursor, f"a{user_id} ")


def is_held(cursor: Cursor, media_id: str) -> bool:
    """Whether anything names a file of this server."""
    return cursor.execute("SELECT 1 FROM media_refs WHERE media_id = ? LIMIT 1", (media_id,)).fetchone() is not None


def delete_unheld(cursor: Cursor, media_ids: Sequence[str], now: int) -> int:
    """Forget those of this server's files that nothing names. How many there were."""
    own = cursor.shared.server_name
    return media.delete(cursor, [(own, one) for one in media_ids if not is_held(cursor, one)], now)


def named_in_room(
    cursor: Cursor, room_nid: int, after: int, limit: int = 1000
) -> tuple[set[media.MediaKey], int | None]:
    """The files that a piece of a room's timeline names, and the position up to which it goes; None at the end.

    Reads the events themselves: for administrators, who do this once in a while.
    """
    rows = cursor.execute(
        "SELECT position, raw FROM events WHERE room_nid = ? AND position > ? ORDER BY position LIMIT ?",
        (room_nid, after, limit),
    ).fetchall()
    found = {key for _, raw in rows for key in named_in(bytes(raw))}
    return found, rows[-1][0] if len(rows) == limit else None


def _event(nid: int, is_state: bool) -> str:
    return f"{'s' if is_state else 'e'}{nid}"


def _hold(cursor: Cursor, holder: str, media_ids: Sequence[str]) -> None:
    if media_ids:
        rows = [(holder, media_id) for media_id in media_ids]
        cursor.insert_many("media_refs", ("holder", "media_id"), rows, "ON CONFLICT DO NOTHING")


def _release_all(cursor: Cursor, prefix: str) -> None:
    # Nothing but a blank, which user ids do not hold, stands between the id and what follows.
    cursor.later("DELETE FROM media_refs WHERE holder >= ? AND holder < ?", (prefix, prefix[:-1] + "!"))


def _is_uploader(cursor: Cursor, media_id: str, user_id: str) -> bool:
    found = media.get(cursor, cursor.shared.server_name, media_id)
    return found is not None and found.user_id == user_id and found.quarantined_by is None


def _is_kept_back(cursor: Cursor, key: media.MediaKey) -> bool:
    """In quarantine, where it stays so that it can't come back."""
    found = media.get(cursor, *key)
    return found is not None and found.quarantined_by is not None

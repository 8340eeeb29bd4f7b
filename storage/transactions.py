"""Transaction ids of clients' requests, kept with the events that they made.

Spec: https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
"""

from __future__ import annotations

from storage import strings
from storage.ports import Cursor
from storage.sql import from_blob


def load_transactions(cursor: Cursor, user_id: str, device_id: str, since_ts: int) -> dict[tuple[str, str], str]:
    """What a device did since then (ms): (path, transaction id) → event id."""
    found = strings.find_many(cursor, (user_id, device_id))
    if user_id not in found or device_id not in found:
        return {}
    rows = cursor.execute(
        "SELECT t.path_nid, t.txn_id, e.event_id FROM transactions t JOIN events e ON e.nid = t.event_nid"
        " WHERE t.user_nid = ? AND t.device_nid = ? AND t.ts >= ?",
        (found[user_id], found[device_id], since_ts),
    ).fetchall()
    paths = strings.texts_of(cursor, {path_nid for path_nid, _, _ in rows})
    return {(paths[path_nid], from_blob(txn_id)): event_id for path_nid, txn_id, event_id in rows}


def forget_transactions(cursor: Cursor, before_ts: int) -> int:
    """Drop what is older than that; says how many. Looks at every row, so once a day is enough."""
    return cursor.execute("DELETE FROM transactions WHERE ts < ?", (before_ts,)).rowcount

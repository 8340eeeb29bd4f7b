"""Transaction ids of clients' requests, kept with the events that they made.

Spec: https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
"""

from __future__ import annotations

from storage import strings
from storage.ports import Cursor, Transaction
from storage.sql import from_blob, to_blob


def used_by_device(cursor: Cursor, user_id: str, device_id: str) -> list[tuple[str, str]]:
    """What a device has used: (path, transaction id)."""
    found = strings.find_many(cursor, (user_id, device_id))
    if user_id not in found or device_id not in found:
        return []
    rows = cursor.execute(
        "SELECT path_nid, txn_id FROM transactions WHERE user_nid = ? AND device_nid = ?",
        (found[user_id], found[device_id]),
    ).fetchall()
    paths = strings.texts_of(cursor, {path_nid for path_nid, _ in rows})
    return [(paths[path_nid], from_blob(txn_id)) for path_nid, txn_id in rows]


def event_of(cursor: Cursor, transaction: Transaction) -> str | None:
    """The id of the event that a transaction made."""
    texts = (transaction.user_id, transaction.device_id, transaction.path)
    found = strings.find_many(cursor, texts)
    if not all(text in found for text in texts):
        return None
    row = cursor.execute(
        "SELECT e.event_id FROM transactions t JOIN events e ON e.nid = t.event_nid"
        " WHERE t.user_nid = ? AND t.device_nid = ? AND t.path_nid = ? AND t.txn_id = ?",
        (*(found[text] for text in texts), to_blob(transaction.txn_id)),
    ).fetchone()
    return None if row is None else row[0]


def is_recorded(cursor: Cursor, transaction: Transaction) -> bool:
    """Whether a transaction was written down, whatever it made."""
    texts = (transaction.user_id, transaction.device_id, transaction.path)
    found = strings.find_many(cursor, texts)
    return (
        all(text in found for text in texts)
        and cursor.execute(
            "SELECT 1 FROM transactions WHERE user_nid = ? AND device_nid = ? AND path_nid = ? AND txn_id = ?",
            (*(found[text] for text in texts), to_blob(transaction.txn_id)),
        ).fetchone()
        is not None
    )


def record(cursor: Cursor, transaction: Transaction, now_ms: int) -> None:
    """Write down a transaction that makes no event. Where it is written down already, the whole write fails."""
    texts = (transaction.user_id, transaction.device_id, transaction.path)
    nids = strings.intern_many(cursor, texts)
    cursor.insert_many(
        "transactions",
        ("user_nid", "device_nid", "path_nid", "txn_id", "event_nid", "ts"),
        [(*(nids[text] for text in texts), to_blob(transaction.txn_id), 0, now_ms)],
    )


def forget_transactions(cursor: Cursor, before_ts: int) -> int:
    """Drop what is older than that; says how many. Looks at every row, so once a day is enough."""
    return cursor.execute("DELETE FROM transactions WHERE ts < ?", (before_ts,)).rowcount

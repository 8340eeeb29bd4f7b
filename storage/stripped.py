"""What peers told of rooms that this server is not in: the stripped state that goes with invitations and knocks.

Spec: https://spec.matrix.org/v1.19/client-server-api/#stripped-state
"""

from __future__ import annotations

from collections.abc import Collection

from storage.ports import Cursor
from storage.sql import among


def put_stripped(cursor: Cursor, event_nid: int, state: bytes) -> None:
    """Keep what came with a member event: `state` is a JSON list. For `EventAppend.also`."""
    cursor.later(
        "INSERT INTO stripped_states (event_nid, state) VALUES (?, ?)"
        " ON CONFLICT (event_nid) DO UPDATE SET state = excluded.state",
        (event_nid, state),
    )


def get_stripped(cursor: Cursor, event_nids: Collection[int]) -> dict[int, bytes]:
    """What came with member events, by their nids; those with which nothing came are left out."""
    if not event_nids:
        return {}
    condition, parameters = among(cursor, "event_nid", sorted(event_nids))
    rows = cursor.execute(f"SELECT event_nid, state FROM stripped_states WHERE {condition}", parameters).fetchall()
    return {nid: bytes(state) for nid, state in rows}

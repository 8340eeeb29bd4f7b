"""`GET /health`: whether this server works, for load balancers and whoever watches over it."""

from __future__ import annotations

from homeserver.http.route import NONE, Reply, route
from storage.database import Database
from storage.ports import Cursor


# No limit: whoever watches must never be told to come back later.
@route("GET", "/health", auth=NONE, rate=None)
async def get_health(database: Database) -> Reply:
    """200 `OK` while the reactor turns and the database answers; the edge makes anything else a 500."""
    await database.run(_ask)
    return Reply(200, b"OK", {"Content-Type": "text/plain; charset=utf-8"})


def _ask(cursor: Cursor) -> None:
    cursor.execute("SELECT 1").fetchone()

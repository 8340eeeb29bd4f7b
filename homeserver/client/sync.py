"""`GET /_matrix/client/v3/sync`: what is new for the caller, waiting for it if there is nothing yet.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync
"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.ephemeral.presence import PresenceBoard
from homeserver.http.route import GUEST, Reply, Requester, route
from homeserver.streams.tokens import parse_stream_token
from homeserver.sync.engine import Sync, SyncAsk
from homeserver.userdata.filters import FilterService

JSON = {"Content-Type": "application/json"}


class SyncQuery(msgspec.Struct, frozen=True, rename={"use_state_after_unstable": "org.matrix.msc4222.use_state_after"}):
    filter: str | None = None
    since: str | None = None
    full_state: bool = False
    set_presence: Literal["online", "offline", "unavailable"] | None = None
    timeout: int = 0
    use_state_after: bool = False
    use_state_after_unstable: bool = False


@route(
    "GET",
    "/_matrix/client/v3/sync",
    auth=GUEST,
    rate="sync",
    query=(
        "filter",
        "since",
        "full_state",
        "set_presence",
        "timeout",
        "use_state_after",
        "org.matrix.msc4222.use_state_after",
    ),
)
async def get_sync(
    sync: Sync, filters: FilterService, presence: PresenceBoard, who: Requester, ask: SyncQuery
) -> Reply:
    wanted = SyncAsk(
        filter=await filters.resolve(who.user_id, ask.filter),
        since=None if ask.since is None else parse_stream_token(ask.since),
        full_state=ask.full_state,
        timeout_ms=max(0, ask.timeout),
        use_state_after=ask.use_state_after or ask.use_state_after_unstable,
    )
    presence.seen(who.user_id, ask.set_presence, who.device_id, wanted.timeout_ms)
    return Reply(200, await sync.sync(who, wanted), JSON)

"""`GET /_matrix/client/v3/notifications`: what somebody was told of.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3notifications
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.route import USER, Requester, route
from homeserver.push.listing import Notifications
from homeserver.rooms.render import Reader, client_event

MOST = 500
USUAL = 50


class GetNotifications(msgspec.Struct, frozen=True):
    from_: str | None = msgspec.field(name="from", default=None)
    limit: int = USUAL
    only: str | None = None


@route("GET", "/_matrix/client/v3/notifications", auth=USER, rate="read", query=("from", "limit", "only"))
async def get_notifications(
    notifications: Notifications, clock: Clock, who: Requester, ask: GetNotifications
) -> dict[str, Any]:
    if ask.limit < 0:
        raise InvalidParam("`limit` must not be negative")
    only_highlights = ask.only is not None and "highlight" in ask.only.split(",")
    page = await notifications.page(who.user_id, _parse(ask.from_), min(max(1, ask.limit), MOST), only_highlights)
    reader = Reader(who.user_id, who.device_id, clock.now_ms(), notifications.events.peek)
    found: dict[str, Any] = {
        "notifications": [
            {
                "room_id": told.room_id,
                "actions": orjson.Fragment(told.actions),
                "event": orjson.Fragment(client_event(told.stored, reader, room_id=False)),
                "read": told.is_read,
                "ts": told.stored.received_ts,
            }
            for told in page.entries
        ]
    }
    if page.next_before is not None:
        found["next_token"] = str(page.next_before)
    return found


def _parse(token: str | None) -> int | None:
    """Raises InvalidParam."""
    if token is None:
        return None
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InvalidParam("`from` is no token of this list")
    return int(token)

"""Who is in a room's call, by the room's state: for those on the gateway, and for plain clients, alike.

MSC3401 with the state keys of MSC3757: `_@user:server_DEVICE_m.call`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from federation.service import service
from homeserver.clock import Clock
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom

CALL_MEMBER: Final = "org.matrix.msc3401.call.member"
EXPIRES_MS: Final = 4 * 3600 * 1000
"""How long a membership holds that nobody takes away."""


class Membership(msgspec.Struct, frozen=True, gc=False):
    """Somebody's device in a room's call."""

    user_id: str
    device_id: str


def state_key(user_id: str, device_id: str) -> str:
    return f"_{user_id}_{device_id}_m.call"


def content(device_id: str, now_ms: int) -> dict[str, Any]:
    """The content of a membership, as Element Call writes it."""
    return {
        "application": "m.call",
        "call_id": "",
        "scope": "m.room",
        "device_id": device_id,
        "created_ts": now_ms,
        "expires": EXPIRES_MS,
        "focus_active": {"type": "livekit", "focus_selection": "oldest_membership"},
        "foci_preferred": [],
    }


@service
class Memberships:
    """Reads them."""

    events: EventCache
    clock: Clock

    async def of(self, room: LiveRoom) -> list[Membership]:
        """Those that hold now, of people who are in the room; the first to come in front."""
        nids = [ref.nid for key, ref in room.frame.items() if key[0] == CALL_MEMBER]
        if not nids:
            return []
        now_ms = self.clock.now_ms()
        found: dict[tuple[str, str], int] = {}
        for stored in (await self.events.get_many(nids)).values():
            event = stored.event
            device_id = _device_of(event.content, event.origin_server_ts, now_ms)
            if device_id is not None and room.membership_of(event.sender) == "join":
                found[event.sender, device_id] = stored.position
        return [Membership(*key) for key in sorted(found, key=lambda key: (found[key], key))]


def _device_of(content: Mapping[str, Any], sent_ts: int, now_ms: int) -> str | None:
    """The device that a membership is of; None where it is none, or is over."""
    device_id, expires = content.get("device_id"), content.get("expires", EXPIRES_MS)
    created = content.get("created_ts", sent_ts)
    if not isinstance(device_id, str) or type(expires) is not int or type(created) is not int:
        return None
    return device_id if min(created, now_ms) + expires > now_ms else None

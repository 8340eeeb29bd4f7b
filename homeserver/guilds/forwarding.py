"""Saying again elsewhere what was said: a copy of a message as it is now, with a word that it is one.

    "chat.guildhall.forwarded": {"ts": when it was said, "room_id": …, "event_id": …}

Where from is told only where those who read it may know anyway: between channels of one guild. Who said it is not told,
as whoever forwards it vouches for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from federation.room.relations import ENCRYPTED
from federation.service import service
from homeserver.errors import Forbidden, MatrixError
from homeserver.guilds.steward import guild_id_of
from homeserver.http.limits import RateLimiter
from homeserver.http.route import Requester
from homeserver.relations.listing import Relations
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.rooms.send import Sender
from storage.ports import StoredEvent

FORWARDED: Final = "chat.guildhall.forwarded"
FORWARDABLE: Final = frozenset(["m.room.message", "m.sticker"])
LEFT_OUT: Final = frozenset(["m.relates_to", "m.new_content", "m.mentions", FORWARDED])
"""Of a content: what has a meaning only where it was said."""


@service
class Forwarder:
    """Copies messages into other rooms."""

    relations: Relations
    rooms: Rooms
    sender: Sender
    limits: RateLimiter

    async def forward(
        self, who: Requester, room_id: str, event_id: str, room_ids: Sequence[str], txn_id: str | None
    ) -> tuple[dict[str, str], dict[str, MatrixError]]:
        """Where it was said by which event, and where it could not be. The same `txn_id` gives the same events.

        Raises NotFound for what the caller may not see, Forbidden for what can't be forwarded.
        """
        versions = await self.relations.versions(room_id, who.user_id, event_id)
        original = versions[0].event
        if original.type == ENCRYPTED:
            raise Forbidden("What is encrypted only its readers' own clients can forward")
        if original.type not in FORWARDABLE or original.state_key is not None or versions[0].redacted_by:
            raise Forbidden("Only messages that are still there can be forwarded")
        source = await self.rooms.require(room_id)
        wanted = list(dict.fromkeys(room_ids))
        if len(wanted) > 1:
            self.limits.charge("message", who.user_id, len(wanted) - 1)
        txn_id = txn_id or secrets.token_urlsafe(12)
        made: dict[str, str] = {}
        failed: dict[str, MatrixError] = {}
        for target_id in wanted:
            try:
                target = await self.rooms.require(target_id)
                content = copy_of(versions, source, target)
                path = f"forward-{event_id}-{txn_id}"
                made[target_id] = await self.sender.message(who, target_id, original.type, content, path)
            except MatrixError as error:
                failed[target_id] = error
        return made, failed


def copy_of(versions: Sequence[StoredEvent], source: LiveRoom, target: LiveRoom) -> dict[str, Any]:
    """What is said in the other room. `versions`: the message and its edits, the oldest first."""
    original, newest = versions[0].event, versions[-1].event
    content: Mapping[str, Any] = newest.content
    if newest is not original:
        content = newest.content.get("m.new_content", {})
    told: dict[str, Any] = {"ts": original.origin_server_ts}
    guild_id = guild_id_of(source)
    if source is target or (guild_id is not None and guild_id_of(target) == guild_id):
        told |= {"room_id": source.room_id, "event_id": original.event_id}
    return {**{key: value for key, value in content.items() if key not in LEFT_OUT}, FORWARDED: told}

"""What this server looks at as a policy server, as long as nobody gives it other rules: the room's own ones.

They hold for every event anyway once it is there. But here they are asked before it goes anywhere, by the room as it is
now: what would be soft-failed everywhere is not signed.

Whoever asks may be ahead: somebody's join, or power, may still be on its way here when their first words are shown.
Where an event cites what has not come yet, only the server ACL and bans count against it.
"""

from __future__ import annotations

from federation.room.auth import Refused
from federation.room.event import Event
from federation.room.identifiers import server_of
from federation.service import service
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.judge import Judge
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.serve.access import PeerAccess


@service
class RoomRules:
    """A `homeserver.rooms.policy.desk.Rule`: the room's server ACL, and its authorisation rules."""

    access: PeerAccess
    judge: Judge
    known: KnownEvents

    async def __call__(self, room: LiveRoom, origin: str, event: Event) -> str | None:
        if not await self.access.is_allowed(str(server_of(event.sender)), room):
            return "the sender's server is not allowed in this room"
        if room.membership_of(event.sender) == "ban":
            return "the sender is banned from this room"
        cited = await self.known.cited(room, event)
        if any(event_id not in cited for event_id in event.auth_events):
            return None
        verdict = await self.judge.by_state(room, event, room.visible.state)
        return f"the room does not allow it: {verdict.why}" if isinstance(verdict, Refused) else None

"""The way of our own events into a room with a policy server: composed, shown to it, and then received.

By the time the signature is there the room may have moved on. So the event goes the way of a peer's: what has happened
meanwhile stands beside it. What one person says in a room enters in the order in which it was said.
"""

from __future__ import annotations

from functools import partial

from attrs import field

from federation.service import service
from homeserver.errors import Forbidden
from homeserver.rooms.accept import Along
from homeserver.rooms.compose import Draft
from homeserver.rooms.endorsing import Endorser
from homeserver.rooms.receive.receiver import Receiver
from homeserver.turns import OneAtATime


@service
class PolicyEntry:
    """Implements `homeserver.rooms.accept.SideEntry`."""

    endorser: Endorser
    receiver: Receiver
    _turns: OneAtATime = field(factory=OneAtATime)
    """By room and sender."""

    async def enter(self, draft: Draft, along: Along) -> None:
        room_id = draft.room.room_id
        key = (room_id, draft.new[0].stored.event.sender)
        await self._turns.alone(key, partial(self._enter, draft, along))

    async def _enter(self, draft: Draft, along: Along) -> None:
        events = [await self.endorser.endorse(draft.room, new.stored.event) for new in draft.new]
        server_name = self.receiver.door.identity.server_name
        for event in events:
            with_it = along if event is events[-1] else Along(along.device)
            verdict = await self.receiver.take(server_name, event, with_it)
            if verdict.outcome not in ("accepted", "known"):
                raise Forbidden(f"The room does not allow this: {verdict.why}")

"""What goes with somebody who is put out of a room: if whoever does it says so, all that they said there.

As if each of these messages had been redacted by the kick or ban itself, on every server for itself: there are no
redactions to send, and nobody need know what there is to redact.

the member event ── a note of it ──► commit ──► what was said goes, a page at a time ──► the note goes

MSC4293: https://github.com/matrix-org/matrix-spec-proposals/pull/4293
"""

from __future__ import annotations

from collections.abc import Sequence

from federation.service import service
from homeserver.rooms.accept import Accepted, Door
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.pruning import prune
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage import events as event_rows
from storage import purges as rows
from storage.database import Database
from storage.memberships import MembershipChange, membership_history
from storage.ports import StoredEvent

REDACTION = "m.room.redaction"
PAGE = 200


@service
class Purges:
    """An observer of the door (`homeserver.rooms.accept.Observer`)."""

    door: Door
    rooms: Rooms
    database: Database
    hub: Hub
    tasks: Tasks

    async def start(self) -> None:
        """Take up what a crash left undone."""
        for room_id, nid in await self.database.run(rows.under_way):
            room, banishment = await self.rooms.get(room_id), await self.door.events.get(nid)
            if room is not None and banishment is not None:
                await self.purge(room, banishment)

    def accepted(self, accepted: Accepted) -> None:
        for new in accepted.events:
            if rows.is_due(new):
                self.tasks.spawn("purge", self.purge(accepted.room, new.stored))

    async def purge(self, room: LiveRoom, banishment: StoredEvent) -> None:
        """Take away what was said in the stay that a kick or ban ended, where its sender may redact it. Doing it twice
        is no mistake.
        """
        await self._purge(room, banishment)
        await self.database.write(rows.done, banishment.nid)

    async def _purge(self, room: LiveRoom, banishment: StoredEvent) -> None:
        levels = await self.door.power_levels(room)
        level = levels.user(banishment.event.sender)
        if level < max(levels.redact, levels.events.get(REDACTION, levels.redact)):
            return
        target = banishment.event.state_key
        assert target is not None
        history = await self.database.run(membership_history, room.nid, target)
        start = stay_before(history, banishment.nid)
        after = 0
        while start is not None:
            page = await self.database.run(
                event_rows.events_of_sender, target, room_nid=room.nid, after_nid=after, limit=PAGE
            )
            if not page:
                return
            after = page[-1][0]
            found = (await self.door.events.get_many([nid for nid, _, _ in page])).values()
            targets = [stored for stored in found if _is_said(stored) and start < stored.position < banishment.position]
            if targets:
                await prune(self.database, self.door.events, self.hub, room, targets, banishment.nid)


def stay_before(history: Sequence[MembershipChange], end_nid: int) -> int | None:
    """In front of which position the stay begins that a member event ended; None where there was none."""
    start: int | None = None
    for change in history:
        if change.event_nid == end_nid:
            return start
        if change.membership != "join":
            start = None
        elif start is None:
            start = change.position - 1
    return None


def _is_said(stored: StoredEvent) -> bool:
    """Messages that still say something; state stays, as what a room is does not go with who set it."""
    return stored.event.state_key is None and stored.event.type != REDACTION and not stored.redacted_by

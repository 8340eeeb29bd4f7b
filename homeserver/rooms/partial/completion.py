"""A partial room becomes whole: the state before the join as it was fetched takes the place of what was known of it.

    take in      the events of that state, each judged by what it cites
    try again    what came meanwhile, while the room goes on
    hold         for a moment nobody writes to the room: what came since is judged too
    write        states, verdicts, the room's new standing, and that it is whole: in one transaction

Before that last step nothing is changed but that more events are known, so an attempt may end anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog
from immutables import Map

from federation.room.auth import Refused
from federation.service import service
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Advance
from homeserver.rooms.live import CREATE, LiveRoom
from homeserver.rooms.partial.retrial import Retrial
from homeserver.rooms.receive.gather import Delivered
from homeserver.rooms.receive.ports import StateIds
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.receive.states import changes_of
from homeserver.rooms.registry import Rooms
from storage import partial as rows
from storage.partial import PartialStay
from storage.ports import Cursor, NewEvent, StoredEvent

ATTEMPTS = 5
"""How often it is begun again because the room was put out of memory, or could not be written to."""

log = structlog.get_logger("homeserver.rooms.partial")


@service
class Completion:
    """Makes rooms whole."""

    door: Door
    rooms: Rooms
    receiver: Receiver

    async def complete(
        self, server: str, room_id: str, stay: PartialStay, join: StoredEvent, told: StateIds, delivered: Delivered
    ) -> bool:
        """Make the room whole with what a server told. False if that does not hold, or the stay is over.

        To be called while nothing else comes into the room from peers (`Receiver.alone`).
        """
        for _ in range(ATTEMPTS):
            room = await self.rooms.require(room_id)
            if not is_current(room, stay):
                return False
            refs = await self.receiver.told.take(room, told, delivered)
            create = None if refs is None else refs.get(CREATE)
            if refs is None or create is None or create.event_id != room.create.event_id:
                log.info("no state of this room", peer=server, room=room_id)
                return False
            verdict = await self.receiver.judge.by_state(room, join.event, Map(refs))
            if isinstance(verdict, Refused):
                log.info("a state that does not allow our join", peer=server, room=room_id, why=verdict.why)
                return False
            states = self.receiver.states
            start, snapshot = states.laid_over(await states.get(room, join.before), refs)
            retrial = Retrial(self.receiver, room, stay, start)
            if snapshot is not None:
                retrial.snapshots.append(snapshot)
            await retrial.run()
            if await self._put(room, stay, retrial):
                return True
        return False

    async def _put(self, room: LiveRoom, stay: PartialStay, retrial: Retrial) -> bool:
        """Put it in the place of what was known. False if that was not this room any more."""
        room.held = []
        try:
            await retrial.run()
            standing = await retrial.standing()
            if self.rooms.peek_nid(room.nid) is not room or not is_current(room, stay):
                return False
            advance = Advance(room)
            advance.standing = standing
            advance.snapshots = retrial.snapshots
            advance.changes = changes_of(room.standing.state, standing.state)
            advance.new = [NewEvent(stored, was_outlier=True) for stored in retrial.admitted]

            def show(position: int) -> None:
                room.become_whole(advance.changes_at)
                room.forget_window(advance.changes_at - 1)
                self.door.events.forget([stored.nid for stored in retrial.changed])

            advance.on_show = show
            also: list[Callable[[Cursor], None]] = [
                *retrial.also,
                partial(rows.rewrite_verdicts, events=retrial.changed),
                lambda cursor: rows.finish(cursor, room.nid, stay.since, advance.changes_at),
            ]
            await self.door.append(advance, also=also, redacted=retrial.redacted)
            return True
        finally:
            waiting, room.held = room.held, None
            for waiter in waiting or ():
                if not waiter.called:
                    waiter.callback(None)


def is_current(room: LiveRoom, stay: PartialStay) -> bool:
    """Whether that stay is the one that the room is in, and is yet to be made whole."""
    return room.partial is not None and room.partial.since == stay.since

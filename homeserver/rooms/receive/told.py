"""A whole state on a peer's word: which events it is said to hold, those of them that are not here, and what is left
of it once each was judged.

    state_ids   the peer says what stood before an event
    fetch       what of that is not here: one by one, or all of it at once where it is much
    take        each is judged by what it cites; what is refused, or not validly signed, is no part of the state

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-events
"""

from __future__ import annotations

from collections.abc import Collection

from federation.room.event import StateKey
from federation.service import service
from homeserver.rooms.live import CREATE, LiveRoom
from homeserver.rooms.receive.gather import Budget, Delivered, Gatherer
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.receive.outliers import Outliers
from homeserver.rooms.receive.ports import StateIds
from storage import events as event_rows
from storage.ports import StateRef, StoredEvent

MANY = 50
"""Missing events of a state past which the whole state is asked for instead of each one."""

MOST_SINGLES = 500
"""Events of one state that are fetched one by one."""


@service
class ToldStates:
    """Gets them."""

    gatherer: Gatherer
    known: KnownEvents
    outliers: Outliers

    async def fetch(
        self, server: str, room: LiveRoom, event_id: str, told: StateIds, budget: Budget
    ) -> Delivered | None:
        """The events of the state before an event, and those under it, that are not here; None if not all can be had.

        Nothing is written, so the room goes on meanwhile.
        """
        here = await self.known.ids(room, [*told.auth_chain, *told.state])
        missing = {*told.auth_chain, *told.state} - here
        delivered = Delivered()
        if len(missing) > MANY:
            budget.events -= len(missing)
            delivered = await self.gatherer.whole_state(server, room.version, room.room_id, event_id, here)
        rest = missing - delivered.events.keys() - delivered.spoilt
        if rest and len(rest) <= MOST_SINGLES:
            more = await self.gatherer.fetch(server, room.version, room.room_id, rest, budget)
            delivered = delivered.with_more(more)
        # What the state rests on may be missing: then what rests on it can't be judged. What it holds may not.
        withheld = set(told.state) & missing - delivered.events.keys() - delivered.spoilt
        return None if withheld else delivered

    async def take(self, room: LiveRoom, told: StateIds, delivered: Delivered) -> dict[StateKey, StateRef] | None:
        """Keep what was delivered, and give the state; None if it holds two events for one key, or not the one with
        which the room began: such a state no room ever had.

        To be called while nothing else comes into the room from peers.
        """
        here = await self.known.ids(room, delivered.events)
        stored: dict[str, StoredEvent] = {}
        await self.outliers.keep(
            room, {event_id: event for event_id, event in delivered.events.items() if event_id not in here}, stored
        )
        entries = await self.known.database.run(event_rows.state_entries, room.nid, _unique(told.state))
        refs: dict[StateKey, StateRef] = {}
        for event_id in sorted(entries):
            entry = entries[event_id]
            if entry.rejected:
                continue
            if entry.key in refs:
                return None
            refs[entry.key] = entry.ref
        if CREATE not in refs:
            return None
        await self.outliers.anchor_state(room, refs)
        return refs


def _unique(event_ids: Collection[str]) -> list[str]:
    return list(dict.fromkeys(event_ids))

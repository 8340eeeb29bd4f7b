"""What came into a partial room is judged again, now that the state before the join is known.

Event by event, in the order in which they came: the state before each is made anew of the states after those that it
follows, and the rules are asked about it as they were the first time. So what was let in by who had left the room long
ago is taken out again, what was refused to somebody who was there is let in, and each event gets the state that every
other server has for it.

Spec: https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu (steps 4 and 5)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from attrs import define, field

from federation.room.auth import Refused
from homeserver.rooms.compose import MAX_PREV_EVENTS
from homeserver.rooms.live import LiveRoom, Standing
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.receive.states import StateAt, ref_of
from storage import events as event_rows
from storage.partial import PartialStay
from storage.ports import Cursor, NewSnapshot, RoomHead, StateChange, StoredEvent

AT_ONCE = 100
"""Events that are read together."""


@define
class Retrial:
    """One of them, of one room. Nothing is written here, and nothing may come into the room from peers meanwhile."""

    receiver: Receiver
    room: LiveRoom
    stay: PartialStay
    start: StateAt
    """The whole state before the join."""
    snapshots: list[NewSnapshot] = field(factory=list)
    """To be written."""
    changed: list[StoredEvent] = field(factory=list)
    """Events whose state or verdict is another now, but for those that are `admitted`."""
    admitted: list[StoredEvent] = field(factory=list)
    """Events that had been refused, and redactions that had been of no avail: they are seen only now."""
    also: list[Callable[[Cursor], None]] = field(factory=list)
    redacted: list[StoredEvent] = field(factory=list)
    """What redactions take out of events that they had to leave alone before."""
    upto: int = field(init=False)
    """Position of the last event that was judged."""
    _judged: dict[str, StoredEvent] = field(factory=dict, init=False)
    _after: dict[str, StateAt] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.upto = self.stay.since - 1

    async def run(self) -> None:
        """Judge all that have come since the last time."""
        database = self.receiver.known.database
        while True:
            # What is queued is written first: a write that writes nothing is done after it.
            await database.write(_nothing)
            events = await database.run(event_rows.placed_after, self.room.nid, self.upto, AT_ONCE)
            for stored in events:
                await self._judge(stored)
                self.upto = stored.position
            if len(events) < AT_ONCE:
                return

    async def standing(self) -> Standing:
        """Where that leaves the room."""
        accepted = [stored for stored in self._judged.values() if not (stored.rejected or stored.soft_failed)]
        followed = {event_id for stored in accepted for event_id in stored.event.prev_events}
        newest = [stored.event for stored in accepted if stored.event.event_id not in followed][-MAX_PREV_EVENTS:]
        current = await self._resolve([self._after[event.event_id] for event in newest])
        depth = max(event.depth for event in newest)
        head = RoomHead(tuple(event.event_id for event in newest), depth, current.snapshot)
        return Standing(head, current.state)

    # ----------------------------------------------------------------------------------------------------------

    async def _judge(self, stored: StoredEvent) -> None:
        receiver, room, event = self.receiver, self.room, stored.event
        before = await self._before(stored)
        cited = await receiver.known.cited(room, event)
        cited.update({event_id: self._judged[event_id] for event_id in cited if event_id in self._judged})
        is_refused = True
        if all(event_id in cited for event_id in event.auth_events):
            verdict = receiver.judge.by_auth_events(room, event, cited)
            if not isinstance(verdict, Refused):
                verdict = await receiver.judge.by_state(room, event, before.state)
            is_refused = isinstance(verdict, Refused)
        now = msgspec.structs.replace(
            stored, before=before.snapshot, after=before.snapshot, rejected=is_refused, replaces=0
        )
        after = before
        if not is_refused and event.state_key is not None:
            key = (event.type, event.state_key)
            old = before.state.get(key)
            now.replaces = 0 if old is None else old.nid
            after, snapshot = receiver.states.follow(before, [StateChange(key, ref_of(now), old)])
            self.snapshots.append(snapshot)
            now.after = after.snapshot
        if not is_refused and not stored.soft_failed and event.redacts is not None:
            effect = await receiver.redactions.effect_of(room, event, before)
            now.unapplied = stored.unapplied and effect.is_vain
            if effect.target is not None:
                also, redacted = effect.apply(room, now)
                self.also += also
                self.redacted += redacted
        self._judged[event.event_id] = now
        self._after[event.event_id] = after
        is_seen_first = (stored.rejected and not is_refused) or (stored.unapplied and not now.unapplied)
        (self.admitted if is_seen_first else self.changed).append(now)

    async def _before(self, stored: StoredEvent) -> StateAt:
        if stored.nid == self.stay.join_nid:
            return self.start
        receiver, room = self.receiver, self.room
        prev_events = stored.event.prev_events
        known = [event_id for event_id in prev_events if event_id not in self._after]
        states = [self._after[event_id] for event_id in prev_events if event_id in self._after]
        for event_id, other in (await receiver.known.find(room, known)).items():
            if other.position and not room.is_blurred(other.position):
                states.append(await receiver.states.get(room, other.after))
                known.remove(event_id)
        if known:
            # It came behind a gap, and was placed by a peer's word on the state before it: that was whole.
            return await receiver.states.get(room, stored.before)
        return await self._resolve(states)

    async def _resolve(self, states: Sequence[StateAt]) -> StateAt:
        at, snapshot = await self.receiver.states.resolve(self.room, states)
        if snapshot is not None:
            self.snapshots.append(snapshot)
        return at


def _nothing(cursor: Cursor) -> None: ...

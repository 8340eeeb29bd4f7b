"""Giving places to pieces of a room's past: between what is here already, or in front of all of it.

    timeline    … 40  41  42 │ numbers left free │ 1048619 …
                              └── what is fetched for the gap goes here, the newest next to what follows it

What comes is judged as everything is, by what it cites and by the state before it, and changes nothing of the room as
it is now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from federation.room.auth import Refused
from federation.room.event import Event
from federation.service import service
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.gather import Budget
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.receive.states import StateAt, ref_of
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage.database import Database
from storage.gaps import Gap, position_before
from storage.ports import FREE_IN_A_GAP, Cursor, EventAppend, NewEvent, NewSnapshot, StateChange, StoredEvent

MOST_STATES = 5
"""States that are asked for in order to place one piece."""


class _Placed(msgspec.Struct, frozen=True):
    """The notice of a piece of the past: readers find it when they look there. Only what it redacts may be in view."""

    position: int
    room_nid: int
    is_recent: bool
    """Whether it got a place among what came live, which the room may have at hand."""
    rooms: Rooms
    events: EventCache
    redacted: Sequence[StoredEvent]

    def publish(self, hub: Hub) -> None:
        room = self.rooms.peek_nid(self.room_nid)
        for stored in self.redacted:
            self.events.rewrite(stored)
            if room is not None:
                room.replace_in_window(stored)
        if room is not None:
            room.past_changed()
            if self.is_recent:
                room.forget_window(hub.position)


@service
class Placer:
    """Judges and places."""

    receiver: Receiver
    database: Database
    hub: Hub

    async def place(self, server: str, room: LiveRoom, gap: Gap, events: Mapping[str, Event]) -> bool:
        """Place events that a peer gave for a gap, as many as can be judged; says whether there are any.

        To be called while nothing else comes into the room from peers (`Receiver.alone`).
        """
        batch = await self._judged(server, room, gap.event_ids, events)
        if not batch.new:
            return False
        counters = self.receiver.door.means.counters
        floor = await self.database.run(position_before, room.nid, gap.position)
        in_between = floor is not None and floor < _below(gap.position, len(batch.new))
        for number, new in enumerate(reversed(batch.new), 1):
            if in_between:
                new.stored.position = _below(gap.position, number)
            else:
                counters.backfill -= 1
                new.stored.position = counters.backfill
        await self._append(batch)
        return True

    async def place_alone(self, server: str, room: LiveRoom, gap: Gap, event: Event) -> bool:
        """Place one event from somewhere in a gap, with room for what is missing on either side of it."""
        batch = await self._judged(server, room, [event.event_id], {event.event_id: event})
        if not batch.new:
            return False
        counters = self.receiver.door.means.counters
        floor = await self.database.run(position_before, room.nid, gap.position)
        if floor is not None and floor < _below(gap.position, 1):
            position = _below(gap.position, (gap.position - floor) // 2)
        else:
            counters.backfill -= FREE_IN_A_GAP
            position = counters.backfill
        batch.new[0].stored.position = position
        await self._append(batch)
        return True

    async def _append(self, batch: _Batch) -> None:
        receiver, room = self.receiver, batch.room
        await self.database.append(
            EventAppend(
                room_nid=room.nid,
                events=batch.new,
                head=None,
                snapshots=batch.snapshots,
                missing_prev=sorted(batch.missing),
                also=batch.also,
                notice=_Placed(
                    self.hub.position,
                    room.nid,
                    batch.new[-1].stored.position > 0,
                    receiver.rooms,
                    receiver.door.events,
                    batch.redacted,
                ),
            )
        )

    async def _judged(self, server: str, room: LiveRoom, start: Collection[str], events: Mapping[str, Event]) -> _Batch:
        """Those that can be judged, oldest first, on the way back from `start`. What lies beyond the other side of the
        gap waits until somebody reads that far.
        """
        batch = _Batch(room)
        cited = [event_id for event in events.values() for event_id in event.prev_events]
        named = list({*events, *cited})
        batch.known.update(await self.receiver.known.find(room, named))
        events = _leading_to(start, events, batch.known)
        # States are compared in the database, so what stands in them is written first.
        unknown = {
            event_id: event
            for event_id, event in events.items()
            if event.state_key is not None and event_id not in batch.known
        }
        await self.receiver.outliers.keep(room, unknown, dict(batch.known))
        batch.known.update(await self.receiver.known.find(room, list(unknown)))
        await self.receiver.outliers.anchor(room, batch.known.values())
        budget = Budget(states=MOST_STATES)
        for event in sorted(events.values(), key=lambda event: (event.depth, event.event_id)):
            known = batch.known.get(event.event_id)
            if known is None or not known.position:
                await self._judge(server, batch, event, known, budget)
        return batch

    async def _judge(self, server: str, batch: _Batch, event: Event, known: StoredEvent | None, budget: Budget) -> None:
        room, receiver = batch.room, self.receiver
        before = await self._before(server, batch, event, budget)
        if before is None:
            return
        cited = await receiver.cited(server, room, event, budget)
        if cited is None:
            return
        if known is not None and known.redacted_by:
            event = known.event  # it was redacted before it had a place
        verdict = receiver.judge.by_auth_events(room, event, cited)
        if not isinstance(verdict, Refused):
            verdict = await receiver.judge.by_state(room, event, before.state)
        is_rejected = isinstance(verdict, Refused)
        counters = receiver.door.means.counters
        if known is None:
            counters.event += 1
        stored = StoredEvent(
            nid=counters.event - 1 if known is None else known.nid,
            position=-1,  # given when all of them are known
            room_nid=room.nid,
            event=event,
            before=before.snapshot,
            after=before.snapshot,
            rejected=is_rejected,
            redacted_by=0 if known is None else known.redacted_by,
            received_ts=receiver.door.clock.now_ms(),
        )
        after = before
        if not is_rejected and event.state_key is not None:
            key = (event.type, event.state_key)
            old = before.state.get(key)
            stored.replaces = 0 if old is None else old.nid
            after, snapshot = receiver.states.follow(before, [StateChange(key, ref_of(stored), old)])
            batch.add_snapshot(snapshot)
            stored.after = after.snapshot
        if not is_rejected:
            effect = await receiver.redactions.effect_of(room, event, before)
            if effect.awaited in batch.known:
                effect.awaited = None  # of the same batch: whoever gave it gave it redacted
                effect.is_vain = False
            also, redacted = effect.apply(room, stored)
            batch.also += also
            batch.redacted += redacted
        batch.new.append(NewEvent(stored, was_outlier=known is not None))
        batch.known[event.event_id] = stored
        batch.after[event.event_id] = after

    async def _before(self, server: str, batch: _Batch, event: Event, budget: Budget) -> StateAt | None:
        """The state before an event: from what it follows, or on the peer's word where that is not here."""
        room, states = batch.room, self.receiver.states
        if not event.prev_events:
            return await states.get(room, 0)
        placed = [batch.known.get(event_id) for event_id in event.prev_events]
        here = [stored for stored in placed if stored is not None and stored.position]
        here = [stored for stored in here if not room.is_blurred(stored.position)]
        found = [batch.after.get(stored.event.event_id) or await states.get(room, stored.after) for stored in here]
        if len(here) < len(placed):
            refs = await self.receiver.state_before(server, room, event.event_id, budget)
            if refs is None:
                return None
            at, snapshot = states.told(room, refs)
            batch.add_snapshot(snapshot)
            found.append(at)
            batch.missing.update(
                event_id
                for event_id, stored in zip(event.prev_events, placed, strict=True)
                if stored is None or not stored.position
            )
        at, snapshot = await states.resolve(room, found)
        batch.add_snapshot(snapshot)
        return at


def _below(position: int, number: int) -> int:
    """The place that lies so many before another; 0 is none, as it says of an event that it has no place."""
    place = position - number
    return place - 1 if position > 0 >= place else place


def _leading_to(
    start: Collection[str], events: Mapping[str, Event], known: Mapping[str, StoredEvent]
) -> dict[str, Event]:
    """Of some events those that come before `start`, as far back as nothing that has a place already is in between."""
    found: dict[str, Event] = {}
    waiting = list(start)
    while waiting:
        event_id = waiting.pop()
        event = events.get(event_id)
        here = known.get(event_id)
        if event is not None and event_id not in found and (here is None or not here.position):
            found[event_id] = event
            waiting += event.prev_events
    return found


class _Batch(msgspec.Struct):
    """A piece of the past while it is judged, oldest first."""

    room: LiveRoom
    known: dict[str, StoredEvent] = msgspec.field(default_factory=dict)
    after: dict[str, StateAt] = msgspec.field(default_factory=dict)
    """State after those of this batch: it is not written yet."""
    new: list[NewEvent] = msgspec.field(default_factory=list)
    snapshots: list[NewSnapshot] = msgspec.field(default_factory=list)
    missing: set[str] = msgspec.field(default_factory=set)
    also: list[Callable[[Cursor], None]] = msgspec.field(default_factory=list)
    redacted: list[StoredEvent] = msgspec.field(default_factory=list)

    def add_snapshot(self, snapshot: NewSnapshot | None) -> None:
        if snapshot is not None:
            self.snapshots.append(snapshot)

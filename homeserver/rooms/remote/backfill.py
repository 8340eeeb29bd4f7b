"""A room's past from before this server was there: asked for when somebody reads that far.

What comes is judged as everything is, by what it cites and by the state before it. It gets places in front of all that
is here, and changes nothing of the room as it is now.

Spec: https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import structlog
from attrs import define, field, frozen

from federation.bounded import Bounded
from federation.outbound.transport import PeerError
from federation.room.auth import Refused
from federation.room.event import Event
from homeserver.clock import Clock
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.gather import Budget
from homeserver.rooms.receive.ports import Peers
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.receive.states import StateAt, ref_of
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage import rooms as room_rows
from storage.database import Database
from storage.ports import Cursor, EventAppend, NewEvent, NewSnapshot, StateChange, StoredEvent

BATCH = 100
MOST_GAPS = 20
"""Places in the graph from which one question goes on."""
MOST_STATES = 5
"""States that are asked for in order to place one piece."""
MOST_SERVERS = 3
"""That are asked in turn."""
FIRST_PAUSE_MS = 60_000
LONGEST_PAUSE_MS = 24 * 3_600_000

log = structlog.get_logger("homeserver.rooms.remote")


@define
class _Pause:
    """After a failure: until when nobody asks again, and how long it will be after the next one."""

    until_ms: int
    next_ms: int


@frozen
class _Backfilled:
    """The notice of a piece of the past: readers find it when they look there. Only what it redacts may be in view."""

    position: int
    room_nid: int
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


@frozen
class Backfill:
    """Fetches it."""

    server_name: str
    peers: Peers
    receiver: Receiver
    database: Database
    hub: Hub
    clock: Clock
    _pauses: Bounded[int, _Pause] = field(factory=lambda: Bounded(5_000))
    """By room; a room of which the past can't be had costs its readers one try in a while."""
    _pieces: Bounded[int, int] = field(factory=lambda: Bounded(5_000))
    """By room: how many were fetched lately."""

    async def has_more(self, room: LiveRoom) -> bool:
        """Whether the room has a past that is not here, and that could be had."""
        if not self._others(room) or self._is_paused(room):
            return False
        return bool(await self.database.run(room_rows.missing_prev, room.nid))

    async def extend(self, room: LiveRoom) -> bool:
        """Fetch a piece of it. False if nothing came of that."""
        if not self._others(room) or self._is_paused(room):
            return False
        return await self.receiver.alone(room.room_id, partial(self._extend, room, self._pieces.get(room.nid)))

    async def _extend(self, room: LiveRoom, pieces: int | None) -> bool:
        """`pieces`: how many there were when it was asked for. Somebody else may have fetched one meanwhile."""
        if self._pieces.get(room.nid) != pieces:
            return True
        gaps = await self.database.run(room_rows.missing_prev, room.nid)
        if not gaps:
            return False
        for server in self._others(room)[:MOST_SERVERS]:
            try:
                raws = await self.peers.backfill(server, room.room_id, earliest=gaps[:MOST_GAPS], limit=BATCH)
            except PeerError as error:
                log.info("no backfill", peer=server, room=room.room_id, why=error.why)
                continue
            checked = await self.receiver.gatherer.check(room.version, raws[:BATCH])
            events = {one.event_id: one for one in checked if isinstance(one, Event) and one.room_id == room.room_id}
            if events and await self._place(server, room, events):
                self._pauses.forget(room.nid)
                self._pieces.put(room.nid, (pieces or 0) + 1)
                return True
        self._pause(room)
        return False

    def _others(self, room: LiveRoom) -> list[str]:
        """Who may know more, the likeliest first."""
        return [server for server in room.servers_by_size() if server != self.server_name]

    def _is_paused(self, room: LiveRoom) -> bool:
        pause = self._pauses.get(room.nid)
        return pause is not None and self.clock.now_ms() < pause.until_ms

    def _pause(self, room: LiveRoom) -> None:
        pause = self._pauses.get(room.nid)
        length_ms = FIRST_PAUSE_MS if pause is None else pause.next_ms
        self._pauses.put(room.nid, _Pause(self.clock.now_ms() + length_ms, min(LONGEST_PAUSE_MS, 2 * length_ms)))

    # -- judged and placed -------------------------------------------------------------------------------------

    async def _place(self, server: str, room: LiveRoom, events: dict[str, Event]) -> bool:
        """Give places to as many as can be judged; says whether there are any."""
        batch = _Batch(room)
        cited = [event_id for event in events.values() for event_id in event.prev_events]
        named = list({*events, *cited})
        batch.known.update(await self.receiver.known.find(room, named))
        # States are compared in the database, so what stands in them is written first.
        unknown = {
            event_id: event
            for event_id, event in events.items()
            if event.state_key is not None and event_id not in batch.known
        }
        await self.receiver.keep(room, unknown, dict(batch.known))
        batch.known.update(await self.receiver.known.find(room, list(unknown)))
        await self.receiver.anchor(room, batch.known.values())
        budget = Budget(states=MOST_STATES)
        for event in sorted(events.values(), key=lambda event: (event.depth, event.event_id)):
            known = batch.known.get(event.event_id)
            if known is None or not known.position:
                await self._judge(server, batch, event, known, budget)
        if not batch.new:
            return False
        counters = self.receiver.door.means.counters
        for new in reversed(batch.new):
            counters.backfill -= 1
            new.stored.position = counters.backfill
        await self.database.append(
            EventAppend(
                room_nid=room.nid,
                events=batch.new,
                head=None,
                snapshots=batch.snapshots,
                missing_prev=sorted(batch.missing),
                also=batch.also,
                notice=_Backfilled(
                    self.hub.position, room.nid, self.receiver.rooms, self.receiver.door.events, batch.redacted
                ),
            )
        )
        return True

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
            effect = await receiver.redactions.effect_of(room, event, before.state)
            if effect.awaited in batch.known:
                effect.awaited = None  # of the same batch: whoever gave it gave it redacted
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
        found = [batch.after.get(stored.event.event_id) or await states.get(room, stored.after) for stored in here]
        if len(here) < len(placed):
            refs = await self.receiver.state_before(server, room, event.event_id, budget)
            if refs is None:
                return None
            base = StateAt(room.standing.head.snapshot, room.standing.state)
            at, snapshot = states.laid_over(base, refs)
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


@define
class _Batch:
    """A piece of the past while it is judged, oldest first."""

    room: LiveRoom
    known: dict[str, StoredEvent] = field(factory=dict)
    after: dict[str, StateAt] = field(factory=dict)
    """State after those of this batch: it is not written yet."""
    new: list[NewEvent] = field(factory=list)
    snapshots: list[NewSnapshot] = field(factory=list)
    missing: set[str] = field(factory=set)
    also: list[Callable[[Cursor], None]] = field(factory=list)
    redacted: list[StoredEvent] = field(factory=list)

    def add_snapshot(self, snapshot: NewSnapshot | None) -> None:
        if snapshot is not None:
            self.snapshots.append(snapshot)

"""The one door: every event, local or from a peer, enters a room here, and is seen by nobody before its commit.

compose (this server's own people) ──┐
                                     ├── Advance ── Door.append ── group commit ── Accepted
receive (peers) ─────────────────────┘                                                │
                             event cache, room, hub's feeds, observers  ◄─────────────┘
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from federation.room.auth import PowerLevels
from federation.room.relations import relation_of
from homeserver.errors import Unavailable
from homeserver.rooms.awaited import AwaitedRedactions
from homeserver.rooms.compose import Advance, Draft, Have, Means, NeedEvents, Template
from homeserver.rooms.endorsing import may_have_policy
from homeserver.rooms.live import HISTORY_VISIBILITY, POWER_LEVELS, LiveRoom, Recent, Standing, StillPartial
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage import events as event_rows
from storage import overruled
from storage.database import Database, RoomPoisoned
from storage.ports import FREE_IN_A_GAP, Cursor, EventAppend, NewEvent, NewRoom, StateChange, StoredEvent, Transaction

MAX_ATTEMPTS = 20
"""How often something is composed afresh because what it built upon could not be written."""

T = TypeVar("T")


class Along(msgspec.Struct, frozen=True, gc=False):
    """What goes along with local events."""

    device: tuple[str, str] | None = None
    """The sending device's id and transaction id, which it will be shown with the events."""
    transaction: Transaction | None = None
    also: Sequence[Callable[[Cursor], None]] = ()
    """What is written with them, however they enter."""
    effects: Sequence[Callable[[Cursor], None]] = ()
    """What they do to other events, by their nids."""
    redacted: Sequence[StoredEvent] = ()
    """New forms of those to show."""


class SideEntry(Protocol):
    """The way of local events into rooms where not this server alone decides."""

    async def enter(self, draft: Draft, along: Along) -> None:
        """Answers when the draft's events are durable, by whatever nids: what they do to others it finds out itself.

        Raises MatrixError where they may not enter.
        """


class Observer(Protocol):
    """Told of every committed acceptance, in order, in the reactor's thread: must not wait and must not raise."""

    def accepted(self, accepted: Accepted) -> None: ...


class Accepted(msgspec.Struct, eq=False):
    """The notice of one committed acceptance: `publish` makes it visible."""

    door: Door
    room: LiveRoom
    standing: Standing | None
    """None where the room's head did not move (a redaction's target rewritten from afar, backfill)."""
    events: Sequence[NewEvent]
    redacted: Sequence[StoredEvent]
    """New forms of older events that a redaction among `events` rewrote."""
    position: int
    changes: Sequence[StateChange] | None = None
    """Of the current state, with no event among `events` to show for them: they are at `changes_at`."""
    changes_at: int = 0
    on_show: Callable[[int], None] | None = None
    put_out: frozenset[str] = frozenset()
    """Servers that are out of the room by state resolution alone: nobody need have told them."""

    def all_changes(self) -> Iterator[StateChange]:
        """Everything that changed in the room's current state."""
        yield from self.changes or ()
        for new in self.events:
            yield from new.changes

    def departed(self) -> list[str]:
        """Who was in the room before and is not any more, be it only by how forks were resolved."""
        return [
            change.key[1]
            for change in self.all_changes()
            if change.key[0] == "m.room.member"
            and change.old is not None
            and change.old.membership == "join"
            and (change.new is None or change.new.membership != "join")
        ]

    def publish(self, hub: Hub) -> None:
        self.door.show(self)


class Door:
    """See the module's docstring. One per process."""

    def __init__(
        self,
        means: Means,
        database: Database,
        rooms: Rooms,
        hub: Hub,
    ) -> None:
        self.means = means
        self.identity = means.identity
        self.clock = means.clock
        self.events = means.events
        self._database = database
        self._rooms = rooms
        self._hub = hub
        self.observers: list[Observer] = []
        self.awaited = AwaitedRedactions(database)
        self.side_entry: SideEntry | None = None
        """For rooms with a policy server; None for a server that keeps to itself."""

    async def with_draft(self, room_id: str, work: Callable[[Draft], T], device: tuple[str, str] | None = None) -> T:
        """Run `work` on a draft of the room, reading what it needs and running it again until nothing is missing.

        `work` adds events and calls `append`; it must not wait, and must leave nothing behind when it raises. Where
        it needs to know members that are yet to be fetched it is run once they are here. Raises StillPartial if that
        takes too long.
        """
        have = Have()
        while True:
            room = await self._rooms.require(room_id)
            if room.held is not None:
                waiter: Deferred[None] = Deferred()
                room.held.append(waiter)
                await waiter
                continue
            try:
                return work(Draft(self.means, room, have, device))
            except NeedEvents as need:
                await self._read(need, have)
            except StillPartial:
                await self._rooms.whole(room)

    async def settle(
        self,
        room_id: str,
        work: Callable[[Draft], tuple[T, Along]],
        device: tuple[str, str] | None = None,
    ) -> T:
        """`with_draft` for work that answers with what it made and what goes along with it; waits until all is durable.

        Where something that it built upon could not be written, it is done again on the room as it is then. Raises
        what keeps the events out, and what made the append itself fail.
        """

        def compose(draft: Draft) -> tuple[T, Awaitable[None]]:
            made, along = work(draft)
            if self.side_entry is not None and may_have_policy(draft.room):
                return made, self.side_entry.enter(draft, along)
            also = [*along.also, *along.effects] if along.effects else along.also
            return made, self.append(draft, transaction=along.transaction, also=also, redacted=along.redacted)

        for _ in range(MAX_ATTEMPTS):
            made, durable = await self.with_draft(room_id, compose, device)
            try:
                await durable
            except RoomPoisoned:
                continue
            return made
        raise Unavailable("The room could not be written to")

    async def settle_together(
        self, room_ids: Sequence[str], work: Callable[[Mapping[str, Draft]], tuple[T, Sequence[Deferred[None]]]]
    ) -> T:
        """`settle` for several rooms at once: `work` gets a draft of each, and what it appends is one commit.

        A room whose append fails does not keep the others' from becoming true: all of it is done again then, so work
        must find out for itself what of it is done already. Policy servers are not asked: others will ask them.
        """
        for _ in range(MAX_ATTEMPTS):
            made, durable = await self._with_drafts(room_ids, work)
            outcomes: list[object] = [outcome for _, outcome in await DeferredList(durable, consumeErrors=True)]
            failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
            for failure in failures:
                if failure.value is not None and not isinstance(failure.value, RoomPoisoned):
                    raise failure.value
            if not failures:
                return made
        raise Unavailable("The rooms could not be written to")

    async def _with_drafts(
        self, room_ids: Sequence[str], work: Callable[[Mapping[str, Draft]], tuple[T, Sequence[Deferred[None]]]]
    ) -> tuple[T, Sequence[Deferred[None]]]:
        have = Have()
        while True:
            for room_id in room_ids:
                await self._rooms.require(room_id)
            rooms = {room_id: self._rooms.peek(room_id) for room_id in room_ids}
            drafts = {room_id: Draft(self.means, room, have) for room_id, room in rooms.items() if room is not None}
            if len(drafts) < len(rooms):
                continue  # while the last ones were read, memory ran out for the first
            try:
                with self._database.together():
                    return work(drafts)
            except NeedEvents as need:
                await self._read(need, have)

    async def power_levels(self, room: LiveRoom) -> PowerLevels:
        """The room's power levels as readers see them."""
        ref = room.visible.state.get(POWER_LEVELS)
        stored = None if ref is None else await self.events.get(ref.nid)
        return room.power_levels(0 if stored is None else stored.nid, None if stored is None else stored.event)

    async def send(
        self,
        room_id: str,
        templates: Sequence[Template],
        transaction: Transaction | None = None,
        also: Sequence[Callable[[Cursor], None]] = (),
        check: Callable[[Draft], None] | None = None,
    ) -> list[StoredEvent]:
        """Compose, judge and append events of local users as one unit; answers when they are durable.

        `check` may look at the room as it stands just before and raise.
        """
        device = None if transaction is None else (transaction.device_id, transaction.txn_id)
        along = Along(device, transaction, also)

        def work(draft: Draft) -> tuple[list[StoredEvent], Along]:
            if check is not None:
                check(draft)
            return [draft.add(template) for template in templates], along

        return await self.settle(room_id, work, device)

    def append(
        self,
        advance: Advance,
        *,
        transaction: Transaction | None = None,
        also: Sequence[Callable[[Cursor], None]] = (),
        new_room: NewRoom | None = None,
        redacted: Sequence[StoredEvent] = (),
    ) -> Deferred[None]:
        """Queue an advance for the group commit and move the room on. Fires when it is durable and visible."""
        room, counters = advance.room, self.means.counters
        if advance.missing_prev and new_room is None:
            counters.position += FREE_IN_A_GAP
        if advance.changes is not None:
            advance.changes_at = counters.position
            counters.position += 1
        for new in advance.new:
            if not new.is_outlier:
                new.stored.position = counters.position
                counters.position += 1
            room.unwritten[new.stored.nid] = new.stored
        notice = Accepted(
            self,
            room,
            advance.standing,
            advance.new,
            redacted,
            counters.position - 1,
            advance.changes,
            advance.changes_at,
            advance.on_show,
            advance.put_out,
        )
        room.standing = advance.standing
        room.queued += 1
        if new_room is not None:
            self._rooms.add(room)
        durable = self._database.append(
            EventAppend(
                room_nid=room.nid,
                events=advance.new,
                head=advance.standing.head,
                snapshots=advance.snapshots,
                missing_prev=advance.missing_prev,
                new_room=new_room,
                transaction=transaction,
                also=[*also, *self._departures(room, advance.new)],
                notice=notice,
                position=advance.changes_at,
                changes=advance.changes or (),
            )
        )
        durable.addErrback(self._failed, room, advance.new)
        return durable

    def _departures(self, room: LiveRoom, new: Sequence[NewEvent]) -> list[Callable[[Cursor], None]]:
        """Notes of which servers have nobody in the room any more: they may still ask by what."""
        lost: Counter[str] = Counter()
        for change in (change for one in new for change in one.changes if change.key[0] == "m.room.member"):
            was_in = change.old is not None and change.old.membership == "join"
            is_in = change.new is not None and change.new.membership == "join"
            lost[change.key[1].partition(":")[2]] += was_in - is_in
        gone = [server for server, count in lost.items() if 0 < count >= room.servers[server]]
        others = [server for server in gone if server != self.identity.server_name]
        return [partial(overruled.note, servers=others, event=new[-1].stored)] if others else []

    def show(self, accepted: Accepted) -> None:
        """Make an acceptance visible: called in commit order, before the sender hears of it."""
        room = accepted.room
        room.queued -= 1
        if accepted.on_show is not None:
            accepted.on_show(accepted.position)
        for stored in accepted.redacted:
            self.events.rewrite(stored)
            room.replace_in_window(stored)
            if (stored.event.type, stored.event.state_key) == POWER_LEVELS:
                room.forget_power_levels()
        recent = []
        if accepted.changes is not None:
            recent.append(Recent(accepted.changes_at, None, tuple(accepted.changes)))
        for new in accepted.events:
            stored = new.stored
            room.unwritten.pop(stored.nid, None)
            if stored.rejected:
                continue
            self.events.put(stored)
            if stored.position > 0:
                if (stored.event.type, stored.event.state_key) == HISTORY_VISIBILITY:
                    room.past_changed()  # who may see what, that is
                elif not stored.soft_failed:
                    room.related.grow(stored, relation_of(stored.event), self.identity.server_name)
                is_hidden = stored.soft_failed or stored.unapplied
                recent.append(Recent(stored.position, None if is_hidden else stored, tuple(new.changes)))
        if accepted.standing is not None:
            room.show(accepted.standing, recent, self.identity.server_name)
        for entry in recent:
            for change in entry.changes:
                # A peer may name somebody who can't be: that is no reason to fail.
                if change.key[0] == "m.room.member" and change.key[1].partition(":")[2] == self.identity.server_name:
                    self._hub.mark_membership(
                        change.key[1],
                        room.nid,
                        entry.position,
                        joined=change.new is not None and change.new.membership == "join",
                        was_joined=change.old is not None and change.old.membership == "join",
                    )
        if recent:
            self._hub.mark_room(room.nid, recent[-1].position)
        if accepted.on_show is not None or (room.stay is not None and room.partial is None):
            self._rooms.stay_ended(room)
        for observer in self.observers:
            observer.accepted(accepted)

    def _failed(self, failure: Failure, room: LiveRoom, lost: Sequence[NewEvent]) -> Failure:
        """An append did not commit. Whatever the room looks like in memory builds upon it, so it is read again."""
        room.queued -= 1
        for new in lost:
            room.unwritten.pop(new.stored.nid, None)
        self._rooms.condemn(room)
        if not room.queued:
            self._database.clear_poison(room.nid)
            self._rooms.drop(room)
        return failure

    async def _read(self, need: NeedEvents, have: Have) -> None:
        if need.nids:
            found = await self.events.get_many(need.nids)
            if len(found) < len(set(need.nids)):
                raise LookupError(f"state names events that are not stored: {set(need.nids) - set(found)}")
            have.by_nid.update(found)
        if need.event_ids:
            read = await self._database.run(event_rows.load_by_ids, need.event_ids)
            if len(read) < len(set(need.event_ids)):
                raise LookupError("extremities name events that are not stored")
            have.by_id.update(read)

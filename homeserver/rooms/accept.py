"""The one door: every event, local or from a peer, enters a room here, and is seen by nobody before its commit.

    compose (this server's own) ──┐
                                  ├── Draft: judged, one after another ── Door.append ── group commit ── Accepted
    gather (a peer's) ────────────┘                                                                        │
                                                       event cache, room, hub's feeds, observers  ◄────────┘

Between the making of a `Draft` and `Door.append` nothing may be awaited: that is what makes a room have one writer at
a time without a lock. What a draft turns out to need and is not in memory is read first, and the draft made again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from attrs import define, frozen
from immutables import Map
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from federation.room.auth import PowerLevels, Refused, auth_types_for, check_auth
from federation.room.build import build_event
from federation.room.event import Event
from federation.room.format import BadEvent, EventTooLarge
from federation.room.hashing import encode_base64, reference_hash
from federation.room.identifiers import server_of
from federation.room.signing import SigningKey
from federation.room.versions import EventIdFormat, RoomVersion
from homeserver.clock import Clock
from homeserver.errors import BadJson, Forbidden, MatrixError, Unavailable
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import POWER_LEVELS, LiveRoom, Recent, Standing
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage import events as event_rows
from storage.database import Database, RoomPoisoned
from storage.ports import (
    Counters,
    Cursor,
    EventAppend,
    NewEvent,
    NewRoom,
    NewSnapshot,
    RoomHead,
    StateChange,
    StateRef,
    StoredEvent,
    Transaction,
)

MAX_PREV_EVENTS = 10
"""How many extremities one of our events joins; the specification allows 20, Synapse uses 10."""

T = TypeVar("T")


class Template(msgspec.Struct, frozen=True, gc=False):
    """What somebody wants to say in a room, before the room's version, graph and keys give it its form."""

    type: str
    sender: str
    content: dict[str, Any]
    """The event's own from then on: nobody may change it afterwards."""
    state_key: str | None = None
    redacts: str | None = None
    extra: Mapping[str, Any] | None = None
    """Further top-level keys of the event, such as a sticky event's."""
    origin_server_ts: int | None = None


@frozen
class Identity:
    """Who this server is among servers."""

    server_name: str
    key: SigningKey


class Observer(Protocol):
    """Told of every committed acceptance, in order, in the reactor's thread: must not wait and must not raise."""

    def accepted(self, accepted: Accepted) -> None: ...


class NeedEvents(Exception):
    """A draft needs events that are not in memory. The door reads them and tries again."""

    def __init__(self, nids: Iterable[int] = (), event_ids: Iterable[str] = ()) -> None:
        super().__init__()
        self.nids = list(nids)
        self.event_ids = list(event_ids)


class Have(msgspec.Struct):
    """What was read for a draft, held until it is done however small the event cache is."""

    by_nid: dict[int, StoredEvent] = msgspec.field(default_factory=dict)
    by_id: dict[str, StoredEvent] = msgspec.field(default_factory=dict)


class Draft:
    """Events composed onto one room, each judged against the room as the ones before it leave it."""

    def __init__(self, door: Door, room: LiveRoom, have: Have, device: tuple[str, str] | None = None) -> None:
        """`device`: the sending device's id and transaction id, which it will be shown with the event."""
        self._door = door
        self._have = have
        self._device = device
        self.room = room
        self.standing = room.standing
        self.new: list[NewEvent] = []
        self.snapshots: list[NewSnapshot] = []

    def add(self, template: Template) -> StoredEvent:
        """Compose, sign and judge one event. Raises Forbidden, BadJson or NeedEvents; nothing is changed then."""
        event = self._compose(template)
        verdict = check_auth(self.room.version, event, self.lookup, self.power_levels())
        if isinstance(verdict, Refused):
            raise Forbidden(verdict.why)
        return self.advance(event)

    def lookup(self, event_type: str, state_key: str) -> Event | None:
        """The room's state as it stands after the events added so far."""
        ref = self.standing.state.get((event_type, state_key))
        return None if ref is None else self.stored(ref.nid).event

    def stored(self, nid: int) -> StoredEvent:
        for new in self.new:
            if new.stored.nid == nid:
                return new.stored
        found = self.room.unwritten.get(nid) or self._door.events.peek(nid) or self._have.by_nid.get(nid)
        if found is None:
            raise NeedEvents([nid])
        return found

    def power_levels(self) -> PowerLevels:
        """The room's power levels as they stand after the events added so far."""
        ref = self.standing.state.get(POWER_LEVELS)
        if ref is None:
            return self.room.power_levels(0, None)
        return self.room.power_levels(ref.nid, self.stored(ref.nid).event)

    def _compose(self, template: Template) -> Event:
        room, head, state = self.room, self.standing.head, self.standing.state
        identity = self._door.identity
        if server_of(template.sender) != identity.server_name:
            raise ValueError("only local users' events are composed")  # our mistake, not a caller's
        wanted = auth_types_for(
            room.version,
            type=template.type,
            sender=template.sender,
            state_key=template.state_key,
            content=template.content,
        )
        refs = [ref for key in wanted if (ref := state.get(key)) is not None]
        missing = [ref.nid for ref in refs if not self._holds(ref.nid)]
        if missing:
            raise NeedEvents(missing)
        prev_events = head.extremities[-MAX_PREV_EVENTS:]
        auth_events = [ref.event_id for ref in refs]
        try:
            return build_event(
                room.version,
                room_id=room.room_id,
                type=template.type,
                sender=template.sender,
                content=template.content,
                state_key=template.state_key,
                redacts=template.redacts,
                prev_events=prev_events,
                auth_events=auth_events,
                depth=head.depth + 1,
                origin_server_ts=template.origin_server_ts or self._door.clock.now_ms(),
                server_name=identity.server_name,
                key=identity.key,
                extra=template.extra,
                event_id=self._door.own_event_id(room.version),
                references=self._references([*prev_events, *auth_events]) if room.version.cites_with_hashes else None,
            )
        except EventTooLarge as error:
            raise MatrixError(413, "M_TOO_LARGE", str(error)) from None
        except BadEvent as error:
            raise BadJson(str(error)) from None

    def _holds(self, nid: int) -> bool:
        return (
            nid in self.room.unwritten
            or self._door.events.peek(nid) is not None
            or nid in self._have.by_nid
            or any(new.stored.nid == nid for new in self.new)
        )

    def _references(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Room versions 1 and 2 cite events together with their hashes."""
        mine = {new.stored.event.event_id: new.stored for new in self.new}
        mine.update((stored.event.event_id, stored) for stored in self.room.unwritten.values())
        known = {event_id: mine.get(event_id) or self._have.by_id.get(event_id) for event_id in event_ids}
        missing = [event_id for event_id, stored in known.items() if stored is None]
        if missing:
            raise NeedEvents(event_ids=missing)
        return {
            event_id: encode_base64(reference_hash(self.room.version, stored.event.to_json()))
            for event_id, stored in known.items()
            if stored is not None
        }

    def advance(self, event: Event) -> StoredEvent:
        """Let the draft's standing move on over an event that was judged."""
        head, state = self.standing.head, self.standing.state
        counters = self._door.counters
        nid = counters.event
        counters.event += 1
        before = after = head.snapshot
        changes: tuple[StateChange, ...] = ()
        replaces = 0
        if event.state_key is not None:
            key = (event.type, event.state_key)
            old = state.get(key)
            replaces = 0 if old is None else old.nid
            membership = event.content.get("membership") if event.type == "m.room.member" else None
            ref = StateRef(nid, event.event_id, membership)
            changes = (StateChange(key, ref, old),)
            state = state.set(key, ref)
            after = counters.snapshot
            counters.snapshot += 1
            self.snapshots.append(NewSnapshot(after, before, ((key, nid),)))
        device_id, txn_id = self._device or (None, None)
        stored = StoredEvent(
            nid=nid,
            position=0,  # given by `Door.append`, in the order of the queue
            room_nid=self.room.nid,
            event=event,
            before=before,
            after=after,
            replaces=replaces,
            received_ts=self._door.clock.now_ms(),
            device_id=device_id,
            txn_id=txn_id,
        )
        unjoined = head.extremities[:-MAX_PREV_EVENTS]
        self.standing = Standing(RoomHead((*unjoined, event.event_id), event.depth, after), state)
        self.new.append(NewEvent(stored, changes))
        return stored


@define(eq=False)
class Accepted:
    """The notice of one committed acceptance: `publish` makes it visible."""

    door: Door
    room: LiveRoom
    standing: Standing | None
    """None where the room's head did not move (a redaction's target rewritten from afar, backfill)."""
    events: Sequence[NewEvent]
    redacted: Sequence[StoredEvent]
    """New forms of older events that a redaction among `events` rewrote."""
    position: int

    def publish(self, hub: Hub) -> None:
        self.door.show(self)


class Door:
    """See the module's docstring. One per process."""

    def __init__(
        self,
        identity: Identity,
        clock: Clock,
        database: Database,
        counters: Counters,
        events: EventCache,
        rooms: Rooms,
        hub: Hub,
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.counters = counters
        self.events = events
        self._database = database
        self._rooms = rooms
        self._hub = hub
        self.observers: list[Observer] = []

    def found(self, version: RoomVersion, room_id: str | None, create: Template) -> Draft:
        """Begin a room: a draft that holds its create event. `room_id` is None where it is the event's hash.

        Raises Forbidden or BadJson. Nothing is known of the room before the draft is appended.
        """
        counters = self.counters
        try:
            event = build_event(
                version,
                room_id=room_id,
                type=create.type,
                sender=create.sender,
                content=create.content,
                state_key="",
                prev_events=(),
                auth_events=(),
                depth=1,
                origin_server_ts=create.origin_server_ts or self.clock.now_ms(),
                server_name=self.identity.server_name,
                key=self.identity.key,
                event_id=self.own_event_id(version),
            )
        except EventTooLarge as error:
            raise MatrixError(413, "M_TOO_LARGE", str(error)) from None
        except BadEvent as error:
            raise BadJson(str(error)) from None
        verdict = check_auth(version, event, lambda event_type, state_key: None)
        if isinstance(verdict, Refused):
            raise Forbidden(verdict.why)
        nothing = Standing(RoomHead((), 0, 0), Map())
        room = LiveRoom(counters.room, version, event, nothing, counters.position - 1, self.identity.server_name)
        counters.room += 1
        draft = Draft(self, room, Have())
        draft.advance(event)
        return draft

    async def with_draft(self, room_id: str, work: Callable[[Draft], T], device: tuple[str, str] | None = None) -> T:
        """Run `work` on a draft of the room, reading what it needs and running it again until nothing is missing.

        `work` adds events and calls `append`; it must not wait, and must leave nothing behind when it raises.
        """
        have = Have()
        while True:
            room = await self._rooms.require(room_id)
            try:
                return work(Draft(self, room, have, device))
            except NeedEvents as need:
                await self._read(need, have)

    def own_event_id(self, version: RoomVersion) -> str | None:
        """A new event id where the room version lets its sender choose one; None where it is a hash."""
        if version.event_id_format is not EventIdFormat.DOMAIN:
            return None
        return f"${secrets.token_urlsafe(18)}:{self.identity.server_name}"

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

        def work(draft: Draft) -> tuple[list[StoredEvent], Deferred[None]]:
            if check is not None:
                check(draft)
            stored = [draft.add(template) for template in templates]
            return stored, self.append(draft, transaction=transaction, also=also)

        for _ in range(5):
            stored, durable = await self.with_draft(room_id, work, device)
            try:
                await durable
            except RoomPoisoned:
                continue  # an event that this one built upon could not be written: compose it afresh
            return stored
        raise Unavailable("The room could not be written to")

    def append(
        self,
        draft: Draft,
        *,
        transaction: Transaction | None = None,
        also: Sequence[Callable[[Cursor], None]] = (),
        new_room: NewRoom | None = None,
        redacted: Sequence[StoredEvent] = (),
    ) -> Deferred[None]:
        """Queue a draft for the group commit and move the room on. Fires when it is durable and visible."""
        room, counters = draft.room, self.counters
        for new in draft.new:
            new.stored.position = counters.position
            counters.position += 1
            room.unwritten[new.stored.nid] = new.stored
        notice = Accepted(self, room, draft.standing, draft.new, redacted, counters.position - 1)
        room.standing = draft.standing
        room.queued += 1
        if new_room is not None:
            self._rooms.add(room)
        durable = self._database.append(
            EventAppend(
                room_nid=room.nid,
                events=draft.new,
                head=draft.standing.head,
                snapshots=draft.snapshots,
                new_room=new_room,
                transaction=transaction,
                also=also,
                notice=notice,
            )
        )
        durable.addErrback(self._failed, room, draft.new)
        return durable

    def show(self, accepted: Accepted) -> None:
        """Make an acceptance visible: called in commit order, before the sender hears of it."""
        room = accepted.room
        room.queued -= 1
        for stored in accepted.redacted:
            self.events.put(stored)
            room.replace_in_window(stored)
            if (stored.event.type, stored.event.state_key) == POWER_LEVELS:
                room.forget_power_levels()
        recent = []
        for new in accepted.events:
            stored = new.stored
            room.unwritten.pop(stored.nid, None)
            if stored.rejected:
                continue
            self.events.put(stored)
            if stored.position > 0:
                recent.append(Recent(stored.position, None if stored.soft_failed else stored, tuple(new.changes)))
        if accepted.standing is not None:
            room.show(accepted.standing, recent, self.identity.server_name)
        for entry in recent:
            for change in entry.changes:
                if change.key[0] == "m.room.member" and server_of(change.key[1]) == self.identity.server_name:
                    self._hub.mark_membership(
                        change.key[1],
                        room.nid,
                        entry.position,
                        joined=change.new is not None and change.new.membership == "join",
                        was_joined=change.old is not None and change.old.membership == "join",
                    )
        if recent:
            self._hub.mark_room(room.nid, recent[-1].position)
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

"""Entering a room that lives elsewhere: the room as its resident server hands it over with our join.

Spec: https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from immutables import Map

from federation.room.auth import Refused
from federation.room.event import Event, StateKey
from federation.room.versions import RoomVersion
from homeserver.errors import MatrixError
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Advance
from homeserver.rooms.live import CREATE, LiveRoom, Standing
from homeserver.rooms.receive.judge import Judge
from homeserver.rooms.receive.receiver import changes_of, cited_first
from homeserver.rooms.receive.states import StateAt, ref_of
from homeserver.rooms.registry import Rooms
from storage.ports import NewEvent, NewRoom, NewSnapshot, RoomHead, StateRef, StoredEvent


@frozen
class Handover:
    """What a resident server answers to a join, checked for format, signatures and hashes."""

    version: RoomVersion
    join: Event
    state: Sequence[Event]
    """The state before the join."""
    auth_chain: Sequence[Event]


@frozen
class Entrance:
    """Makes a live room of a handover."""

    door: Door
    rooms: Rooms
    judge: Judge

    async def enter(self, handover: Handover) -> LiveRoom:
        """Write the room as it was handed over, with our join as its newest event.

        Raises MatrixError where the handover does not hold: no create event, another version, a join that its own
        state does not allow. Nothing is written then.
        """
        create = self._create(handover)
        counters = self.door.means.counters
        nothing = Standing(RoomHead((), 0, 0), Map())
        server_name = self.door.identity.server_name
        room = LiveRoom(counters.room, handover.version, create, nothing, counters.position - 1, server_name)
        counters.room += 1

        advance = Advance(room)
        stored = self._outliers(room, handover, advance)
        refs: dict[StateKey, StateRef] = {}
        for event in handover.state:
            found = stored.get(event.event_id)
            if found is not None and not found.rejected and event.state_key is not None:
                refs[event.type, event.state_key] = ref_of(found)
        before = self._snapshot(advance, StateAt(0, Map()), refs)
        join = handover.join
        lookup = {key: stored[ref.event_id].event for key, ref in refs.items()}
        verdict = self.judge.against(room, join, lookup)
        if isinstance(verdict, Refused):
            raise MatrixError(403, "M_FORBIDDEN", f"The room does not allow this join: {verdict.why}")
        self._place(advance, join, before)
        room_type = create.content.get("type")
        new_room = NewRoom(
            room.nid,
            room.room_id,
            handover.version.identifier,
            create.sender,
            room_type if isinstance(room_type, str) else None,
        )
        await self.door.append(advance, new_room=new_room)
        return room

    def _create(self, handover: Handover) -> Event:
        creates = [event for event in handover.state if (event.type, event.state_key) == CREATE]
        if len(creates) != 1:
            raise MatrixError(502, "M_UNKNOWN", "The other server answered with a room that has no creation")
        create = creates[0]
        if create.room_id != handover.join.room_id:
            raise MatrixError(502, "M_UNKNOWN", "The other server answered with another room")
        if create.content.get("room_version", "1") != handover.version.identifier:
            raise MatrixError(502, "M_UNKNOWN", "The other server's room has another version than it said")
        return create

    def _outliers(self, room: LiveRoom, handover: Handover, advance: Advance) -> dict[str, StoredEvent]:
        events = {event.event_id: event for event in [*handover.auth_chain, *handover.state]}
        stored: dict[str, StoredEvent] = {}
        for event in cited_first(events):
            if any(event_id not in stored for event_id in event.auth_events):
                continue  # it can't be judged, so it is not taken on trust
            verdict = self.judge.by_auth_events(room, event, stored)
            stored[event.event_id] = outlier = self._stored(room, event, rejected=isinstance(verdict, Refused))
            advance.new.append(NewEvent(outlier, is_outlier=True))
        return stored

    def _stored(self, room: LiveRoom, event: Event, *, rejected: bool = False) -> StoredEvent:
        counters = self.door.means.counters
        counters.event += 1
        return StoredEvent(
            nid=counters.event - 1,
            position=0,
            room_nid=room.nid,
            event=event,
            before=0,
            after=0,
            rejected=rejected,
            received_ts=self.door.clock.now_ms(),
        )

    def _snapshot(self, advance: Advance, base: StateAt, refs: dict[StateKey, StateRef]) -> StateAt:
        counters = self.door.means.counters
        nid = counters.snapshot
        counters.snapshot += 1
        delta = [(key, ref.nid) for key, ref in sorted(refs.items())]
        advance.snapshots.append(NewSnapshot(nid, base.snapshot, delta))
        return StateAt(nid, base.state.update(refs))

    def _place(self, advance: Advance, join: Event, before: StateAt) -> None:
        room = advance.room
        stored = self._stored(room, join)
        assert join.state_key is not None
        after = self._snapshot(advance, before, {(join.type, join.state_key): ref_of(stored)})
        stored.before, stored.after = before.snapshot, after.snapshot
        replaced = before.state.get((join.type, join.state_key))
        stored.replaces = 0 if replaced is None else replaced.nid
        standing = Standing(RoomHead((join.event_id,), join.depth, after.snapshot), after.state)
        advance.new.append(NewEvent(stored, changes_of(advance.standing, standing)))
        advance.missing_prev = list(join.prev_events)
        advance.standing = standing

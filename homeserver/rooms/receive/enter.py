"""Entering a room that lives elsewhere: the room as its resident server hands it over with our join.

Spec: https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
from immutables import Map

from federation.room.auth import Refused
from federation.room.event import Event, StateKey
from federation.room.versions import RoomVersion
from federation.service import service
from homeserver.errors import MatrixError
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Advance
from homeserver.rooms.live import CREATE, LiveRoom, Standing
from homeserver.rooms.receive.judge import Docket, Judge
from homeserver.rooms.receive.outliers import cited_first
from homeserver.rooms.receive.states import StateAt, changes_of, ref_of
from homeserver.rooms.registry import Rooms
from storage import events as event_rows
from storage import partial as partial_rows
from storage import rooms as room_rows
from storage.database import Database
from storage.partial import PartialStay
from storage.ports import Cursor, NewEvent, NewRoom, NewSnapshot, RoomHead, StateRef, StoredEvent

MEMBER = "m.room.member"


class LeftOut(msgspec.Struct, frozen=True):
    """What is said of members that were left out of a handover."""

    via: str
    """Who left them out."""
    servers: Sequence[str]
    """That are in the room, `via` among them."""


class Handover(msgspec.Struct, frozen=True):
    """What a resident server answers to a join, checked for format, signatures and hashes."""

    version: RoomVersion
    join: Event
    state: Sequence[Event]
    """The state before the join."""
    auth_chain: Sequence[Event]
    left_out: LeftOut | None = None
    """None: the state is whole."""


class _Threshold(msgspec.Struct):
    """A room that is being entered: what of it is here already, from an earlier stay or an invitation."""

    advance: Advance
    known: dict[str, StoredEvent]
    """By event id."""


@service
class Entrance:
    """Makes a live room of a handover."""

    door: Door
    rooms: Rooms
    judge: Judge
    database: Database

    async def enter(self, handover: Handover) -> LiveRoom:
        """Write the room as it was handed over, with our join as its newest event.

        What this server thought of the room after an earlier stay there counts for nothing any more. Nobody else may
        write to the room meanwhile. Raises MatrixError where the handover does not hold: no create event, another
        version, a join that its own state does not allow. Nothing is written then.
        """
        create = _find_create(handover)
        server_name = self.door.identity.server_name
        room_nid, known = await self.database.run(_read_known, handover)
        live = None if room_nid is None else await self.rooms.get(handover.join.room_id)
        counters = self.door.means.counters
        if live is None:
            nid = counters.room if room_nid is None else room_nid
            nothing = Standing(RoomHead((), 0, 0), Map())
            live = LiveRoom(nid, handover.version, create, nothing, counters.position - 1, server_name)
            if room_nid is None:
                counters.room += 1

        threshold = _Threshold(Advance(live), known)
        stored = self._outliers(threshold, handover)
        refs: dict[StateKey, StateRef] = {}
        for event in handover.state:
            found = stored.get(event.event_id)
            if found is not None and not found.rejected and event.state_key is not None:
                refs[event.type, event.state_key] = ref_of(found)
        if handover.left_out is not None:
            self._add_known_members(handover, threshold, stored, refs)
        join = handover.join
        lookup = {key: stored[ref.event_id].event for key, ref in refs.items() if ref.event_id in stored}
        verdict = self.judge.against(live, join, lookup)
        if isinstance(verdict, Refused):
            raise MatrixError(403, "M_FORBIDDEN", f"The room does not allow this join: {verdict.why}")
        before = self._snapshot(threshold.advance, StateAt(0, Map()), refs)
        placed = self._place(threshold, join, before)
        await self._append(handover, threshold.advance, create, placed, is_new=room_nid is None)
        return live

    async def _append(
        self, handover: Handover, advance: Advance, create: Event, join: StoredEvent, *, is_new: bool
    ) -> None:
        room, left_out = advance.room, handover.left_out
        also: list[Callable[[Cursor], None]] = []
        if left_out is not None:
            also.append(partial(partial_rows.begin, join=join, via=left_out.via, servers=left_out.servers))
        elif room.stay is not None:
            also.append(partial(partial_rows.end, join=join))

        def show(position: int) -> None:
            if left_out is None:
                room.end_stay(join.position)
            else:
                servers = tuple(left_out.servers)
                room.begin_stay(PartialStay(join.position, None, join.nid, left_out.via, servers))

        advance.on_show = show
        room_type = create.content.get("type")
        row = NewRoom(
            room.nid,
            room.room_id,
            handover.version.identifier,
            create.sender,
            room_type if isinstance(room_type, str) else None,
        )
        if is_new:
            await self.door.append(advance, new_room=row, also=also)
            return
        # Whoever invited us may have said of the room what is not so.
        durable = self.door.append(advance, also=[partial(room_rows.correct_room, row=row), *also])
        if self.rooms.peek_nid(room.nid) is None:
            self.rooms.add(room)
        await durable

    def _add_known_members(
        self,
        handover: Handover,
        threshold: _Threshold,
        stored: Mapping[str, StoredEvent],
        refs: dict[StateKey, StateRef],
    ) -> None:
        """Members that were left out and are known all the same: those whom the join cites, and our own people who
        left in an earlier stay: they may read what was said until then.
        """
        for event_id in handover.join.auth_events:
            found = stored.get(event_id)
            if found is None or found.rejected or found.event.type != MEMBER:
                continue
            if found.event.state_key is not None:
                refs.setdefault((MEMBER, found.event.state_key), ref_of(found))
        ours = ":" + self.door.identity.server_name
        for key, ref in threshold.advance.standing.state.items():
            if key[0] == MEMBER and key[1].endswith(ours) and ref.membership in ("leave", "ban"):
                refs.setdefault(key, ref)

    def _outliers(self, threshold: _Threshold, handover: Handover) -> dict[str, StoredEvent]:
        advance = threshold.advance
        room = advance.room
        events = {event.event_id: event for event in [*handover.auth_chain, *handover.state]}
        stored: dict[str, StoredEvent] = {}
        docket = Docket()
        for event in cited_first(events):
            if not all(map(stored.__contains__, event.auth_events)):
                continue  # it can't be judged, so it is not taken on trust
            known = threshold.known.get(event.event_id)
            if known is not None and (known.position or known.rejected):
                stored[event.event_id] = known
                continue
            verdict = self.judge.by_auth_events(room, event, stored, docket)
            outlier = self._stored(room, event, known, rejected=isinstance(verdict, Refused))
            stored[event.event_id] = outlier
            advance.new.append(NewEvent(outlier, is_outlier=True, was_outlier=known is not None))
        return stored

    def _stored(
        self, room: LiveRoom, event: Event, known: StoredEvent | None, *, rejected: bool = False
    ) -> StoredEvent:
        counters = self.door.means.counters
        if known is None:
            counters.event += 1
        return StoredEvent(
            nid=counters.event - 1 if known is None else known.nid,
            position=0,
            room_nid=room.nid,
            event=event if known is None else known.event,
            before=0,
            after=0,
            rejected=rejected,
            redacted_by=0 if known is None else known.redacted_by,
            received_ts=self.door.clock.now_ms(),
        )

    def _snapshot(self, advance: Advance, base: StateAt, refs: dict[StateKey, StateRef]) -> StateAt:
        counters = self.door.means.counters
        nid = counters.snapshot
        counters.snapshot += 1
        delta = [(key, ref.nid) for key, ref in sorted(refs.items())]
        advance.snapshots.append(NewSnapshot(nid, base.snapshot, delta))
        return StateAt(nid, base.state.update(refs))

    def _place(self, threshold: _Threshold, join: Event, before: StateAt) -> StoredEvent:
        advance = threshold.advance
        known = threshold.known.get(join.event_id)
        stored = self._stored(advance.room, join, known)
        assert join.state_key is not None
        after = self._snapshot(advance, before, {(join.type, join.state_key): ref_of(stored)})
        stored.before, stored.after = before.snapshot, after.snapshot
        replaced = before.state.get((join.type, join.state_key))
        stored.replaces = 0 if replaced is None else replaced.nid
        standing = Standing(RoomHead((join.event_id,), join.depth, after.snapshot), after.state)
        changes = changes_of(advance.standing.state, standing.state)
        advance.new.append(NewEvent(stored, changes, was_outlier=known is not None))
        here = {event_id for event_id, found in threshold.known.items() if found.position}
        advance.missing_prev = [event_id for event_id in join.prev_events if event_id not in here]
        advance.standing = standing
        return stored


def _find_create(handover: Handover) -> Event:
    creates = [event for event in handover.state if (event.type, event.state_key) == CREATE]
    if len(creates) != 1:
        raise MatrixError(502, "M_UNKNOWN", "The other server answered with a room that has no creation")
    create = creates[0]
    if create.room_id != handover.join.room_id:
        raise MatrixError(502, "M_UNKNOWN", "The other server answered with another room")
    if create.content.get("room_version", "1") != handover.version.identifier:
        raise MatrixError(502, "M_UNKNOWN", "The other server's room has another version than it said")
    return create


def _read_known(cursor: Cursor, handover: Handover) -> tuple[int | None, dict[str, StoredEvent]]:
    """The room's nid, if there is a row of it, and those of its events that are here."""
    room_nid = room_rows.find_nid(cursor, handover.join.room_id)
    if room_nid is None:
        return None, {}
    named = [event.event_id for event in [*handover.state, *handover.auth_chain, handover.join]]
    known = event_rows.load_by_ids(cursor, list(dict.fromkeys([*named, *handover.join.prev_events])))
    return room_nid, {event_id: stored for event_id, stored in known.items() if stored.room_nid == room_nid}

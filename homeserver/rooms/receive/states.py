"""The state of a room at any of its events: read by snapshot, kept for a while, and resolved where forks meet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from attrs import frozen
from immutables import Map

from federation.room.event import Event, StateKey
from federation.room.resolution import Conflict, MissingEvent, resolve_conflict
from federation.room.versions import RoomVersion, StateResolution
from homeserver.rooms.live import LiveRoom, State
from storage import auth_chains
from storage import events as event_rows
from storage import state as state_rows
from storage.database import Database
from storage.ports import Counters, Cursor, NewSnapshot, StateRef, StoredEvent

MAX_STATES = 200
"""How many states are kept in memory. Those of one room share nearly all of what they hold."""


class StateAt(msgspec.Struct, frozen=True, gc=False):
    """One state of a room, as memory and as the database know it."""

    snapshot: int
    state: State


class RoomStates:
    """Hands out states by snapshot, and merges them."""

    def __init__(self, database: Database, counters: Counters) -> None:
        self._database = database
        self._counters = counters
        self._held: OrderedDict[int, State] = OrderedDict()

    def put(self, at: StateAt) -> None:
        self._held[at.snapshot] = at.state
        while len(self._held) > MAX_STATES:
            self._held.popitem(last=False)

    async def get(self, room: LiveRoom, snapshot: int) -> StateAt:
        """The state of a snapshot of that room. 0 is the empty state, before the create event."""
        if snapshot == room.standing.head.snapshot:
            return StateAt(snapshot, room.standing.state)
        held = self._held.get(snapshot)
        if held is None:
            if not snapshot:
                return StateAt(0, Map())
            if room.queued:
                await self._database.write(_nothing)  # whoever asks may have been told of it before it is written
            at = StateAt(snapshot, Map(await self._database.run(state_rows.read_state_refs, snapshot)))
            self.put(at)
            return at
        self._held.move_to_end(snapshot)
        return StateAt(snapshot, held)

    async def resolve(self, room: LiveRoom, states: Sequence[StateAt]) -> tuple[StateAt, NewSnapshot | None]:
        """Merge states into one. The snapshot is to be written with the event that made it necessary, if there is one.

        Spec: https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution
        """
        by_snapshot = {at.snapshot: at for at in states}
        forks = [by_snapshot[snapshot] for snapshot in sorted(by_snapshot)]
        disputed = disputed_keys(room.version, [at.state for at in forks])
        if not disputed:
            return self._merge(room, forks, {})
        if room.queued:
            await self._database.write(_nothing)
        answer = await self._database.run(resolve_in, room.version, [at.state for at in forks], disputed)
        return self._merge(room, forks, {key: answer.get(key) for key in disputed})

    def laid_over(self, base: StateAt, wanted: Mapping[StateKey, StateRef]) -> tuple[StateAt, NewSnapshot | None]:
        """A whole state that is known by its entries, written as what differs from `base`."""
        delta: dict[StateKey, StateRef | None] = dict(_difference(base.state, wanted))
        delta.update({key: None for key in base.state if key not in wanted})
        return self._changed(base, delta)

    def _merge(
        self, room: LiveRoom, forks: Sequence[StateAt], decided: Mapping[StateKey, StateRef | None]
    ) -> tuple[StateAt, NewSnapshot | None]:
        """Lay what was decided over one of the forks: the one from which it differs least."""
        wanted: dict[StateKey, StateRef | None] = dict(decided)
        if room.version.state_resolution is StateResolution.V1:
            for at in forks:  # what one fork has and the others know nothing of is not in dispute in version 1
                for key, ref in at.state.items():
                    wanted.setdefault(key, ref)
        best, best_delta = forks[0], _difference(forks[0].state, wanted)
        for at in forks[1:]:
            delta = _difference(at.state, wanted)
            if len(delta) < len(best_delta):
                best, best_delta = at, delta
        return self._changed(best, best_delta)

    def _changed(self, base: StateAt, delta: Mapping[StateKey, StateRef | None]) -> tuple[StateAt, NewSnapshot | None]:
        if not delta:
            return base, None
        with_changes = base.state.mutate()
        for key, ref in delta.items():
            if ref is None:
                del with_changes[key]
            else:
                with_changes[key] = ref
        nid = self._counters.snapshot
        self._counters.snapshot += 1
        merged = StateAt(nid, with_changes.finish())
        self.put(merged)
        delta_nids = [(key, 0 if ref is None else ref.nid) for key, ref in sorted(delta.items())]
        return merged, NewSnapshot(nid, base.snapshot, delta_nids)


def disputed_keys(version: RoomVersion, states: Sequence[State]) -> list[StateKey]:
    """The keys at which states differ, in an explicit order. Looks at every entry of every state once."""
    first = states[0]
    disputed: set[StateKey] = set()
    for other in states[1:]:
        shared = 0
        for key, ref in other.items():
            mine = first.get(key)
            if mine is not None:
                shared += 1
            if mine is None or mine.nid != ref.nid:
                disputed.add(key)
        if shared < len(first):
            disputed.update(key for key in first if key not in other)
    if version.state_resolution is StateResolution.V1:
        disputed = {key for key in disputed if len({at[key].nid for at in states if key in at}) > 1}
    return sorted(disputed)


@frozen
class _EventIds(Mapping[StateKey, str]):
    """A state as resolution wants it: key → event id."""

    state: State

    def __getitem__(self, key: StateKey) -> str:
        return self.state[key].event_id

    def __iter__(self) -> Iterator[StateKey]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


def resolve_in(
    cursor: Cursor, version: RoomVersion, states: Sequence[State], disputed: Sequence[StateKey]
) -> dict[StateKey, StateRef]:
    """What stands at the disputed keys. Runs in a database thread and reads what it turns out to need."""
    forks = tuple({key: at[key].event_id for key in disputed if key in at} for at in states)
    conflict = Conflict(_EventIds(states[0]), forks)
    known: dict[str, StoredEvent] = {}
    nids = {at[key].nid for at in states for key in disputed if key in at}
    difference: set[int] | None = None
    subgraph: set[int] | None = None
    if version.state_resolution is not StateResolution.V1:
        difference = auth_chains.auth_difference(cursor, [{ref.nid for ref in at.values()} for at in states])
        nids |= difference
    if version.state_resolution is StateResolution.V2_1:
        conflicted = {at[key].nid for at in states for key in disputed if key in at}
        subgraph = auth_chains.conflicted_subgraph(cursor, conflicted)
        nids |= subgraph
    _take(known, event_rows.load_events(cursor, nids).values())
    by_nid = {stored.nid: event_id for event_id, stored in known.items()}
    while True:
        events: dict[str, Event] = {event_id: stored.event for event_id, stored in known.items()}
        rejected = {event_id for event_id, stored in known.items() if stored.rejected}
        try:
            answer = resolve_conflict(
                version,
                conflict,
                events,
                rejected,
                None if difference is None else {by_nid[nid] for nid in difference},
                None if subgraph is None else {by_nid[nid] for nid in subgraph},
            )
        except MissingEvent as missing:
            found = event_rows.load_by_ids(cursor, missing.event_ids)
            if not found:
                raise
            _take(known, found.values())
            continue
        return {key: ref_of(known[event_id]) for key, event_id in answer.items()}


def ref_of(stored: StoredEvent) -> StateRef:
    """What the state keeps of an event."""
    event = stored.event
    membership = event.content.get("membership") if event.type == "m.room.member" else None
    return StateRef(stored.nid, event.event_id, membership if isinstance(membership, str) else None)


def _take(known: dict[str, StoredEvent], found: object) -> None:
    for stored in found:  # type: ignore[attr-defined]
        known[stored.event.event_id] = stored


def _difference(state: State, wanted: Mapping[StateKey, StateRef | None]) -> dict[StateKey, StateRef | None]:
    found: dict[StateKey, StateRef | None] = {}
    for key, ref in wanted.items():
        mine = state.get(key)
        if (mine is None) != (ref is None) or (mine is not None and ref is not None and mine.nid != ref.nid):
            found[key] = ref
    return found


def _nothing(cursor: Cursor) -> None:
    """A write that writes nothing: done when everything queued before it is."""

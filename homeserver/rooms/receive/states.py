"""The state of a room at any of its events: read by snapshot, kept for a while, and resolved where forks meet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter

import msgspec
from attrs import frozen
from immutables import Map

from federation.room.event import Event, StateKey
from federation.room.resolution import Conflict, MissingEvent, Precedents, resolve_conflict
from federation.room.versions import RoomVersion, StateResolution
from homeserver.rooms.compose import Means
from homeserver.rooms.live import LiveRoom, Standing, State
from storage import auth_chains
from storage import events as event_rows
from storage import state as state_rows
from storage.database import Database
from storage.ports import Cursor, NewSnapshot, StateChange, StateRef, StoredEvent

MAX_STATES = 20
"""How many states are kept in memory that can't be derived from a room's present one: they may be of big rooms."""


MANY = 30
"""Events of a resolution past which it is worth while to write down what becomes of each."""

MAX_AGREED = 10
"""Rooms with forks of which it is remembered what was found out about them."""

_KEY = attrgetter("key")

MAX_TOLD = 5
"""Partial rooms of which a whole state is kept for comparison."""


class StateAt(msgspec.Struct, frozen=True, gc=False):
    """One state of a room, as memory and as the database know it."""

    snapshot: int
    state: State
    is_partial: bool = False
    """Members of other servers may be missing in it, and what it says of them may be outdated."""


class Learnt(msgspec.Struct, frozen=True, gc=False):
    """What a resolution writes down for the next one."""

    refuted: dict[int, int]
    """See `auth_chains.auth_difference`."""
    precedents: Precedents


class _Agreed(msgspec.Struct, frozen=True, gc=False):
    """What was learnt when forks of a room were resolved, about what they agree on."""

    snapshot: int
    """One of them."""
    disputed: frozenset[StateKey]
    """Where they did not agree."""
    learnt: Learnt


class RoomStates:
    """Hands out states by snapshot, and merges them."""

    def __init__(self, database: Database, means: Means) -> None:
        self._database = database
        self._counters = means.counters
        self._lineage = means.lineage
        self._held: OrderedDict[int, State] = OrderedDict()
        self._told: OrderedDict[int, StateAt] = OrderedDict()
        """By partial room (nid): the whole state that a peer told of it last."""
        self._agreed: OrderedDict[int, _Agreed] = OrderedDict()
        """By room (nid)."""

    def follow(self, base: StateAt, changes: Sequence[StateChange]) -> tuple[StateAt, NewSnapshot]:
        """A state that differs from `base` as said, and the snapshot that is to be written of it."""
        with_changes = base.state.mutate()
        for change in changes:
            if change.new is None:
                del with_changes[change.key]
            else:
                with_changes[change.key] = change.new
        nid = self._counters.snapshot
        self._counters.snapshot += 1
        after = StateAt(nid, with_changes.finish(), base.is_partial)
        if not self._lineage.note(nid, base.snapshot, changes):
            self._put(after)
        delta = [(change.key, 0 if change.new is None else change.new.nid) for change in changes]
        return after, NewSnapshot(nid, base.snapshot, delta)

    async def get(self, room: LiveRoom, snapshot: int) -> StateAt:
        """The state of a snapshot of that room. 0 is the empty state, before the create event."""
        if snapshot == room.standing.head.snapshot:
            return StateAt(snapshot, room.standing.state)
        if not snapshot:
            return StateAt(0, Map())
        held = self._held.get(snapshot)
        if held is None:
            standing = room.standing
            derived = self._lineage.derive(standing.state, standing.head.snapshot, snapshot)
            if derived is not None:
                return StateAt(snapshot, derived)
            if room.queued:
                await self._database.write(_nothing)  # whoever asks may have been told of it before it is written
            at = StateAt(snapshot, Map(await self._database.run(state_rows.read_state_refs, snapshot)))
            self._put(at)
            return at
        self._held.move_to_end(snapshot)
        return StateAt(snapshot, held)

    def current(self, room: LiveRoom) -> StateAt:
        """The room as its writer has it."""
        return StateAt(room.standing.head.snapshot, room.standing.state, room.partial is not None)

    async def after(self, room: LiveRoom, stored: StoredEvent) -> StateAt:
        """The state after an event of that room which has its place."""
        at = await self.get(room, stored.after)
        if room.blurred and room.is_blurred(stored.position):
            return msgspec.structs.replace(at, is_partial=True)
        return at

    async def before(self, room: LiveRoom, stored: StoredEvent) -> StateAt:
        """The state before it."""
        at = await self.get(room, stored.before)
        if room.blurred and room.is_blurred(stored.position):
            return msgspec.structs.replace(at, is_partial=True)
        return at

    async def resolve(self, room: LiveRoom, states: Sequence[StateAt]) -> tuple[StateAt, NewSnapshot | None]:
        """Merge states into one, which is partial if any of them is. The snapshot is to be written with the event that
        made it necessary, if there is one.

        Spec: https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution
        """
        is_partial = any(at.is_partial for at in states)
        by_snapshot = {at.snapshot: at for at in states}
        forks = [StateAt(snapshot, by_snapshot[snapshot].state, is_partial) for snapshot in sorted(by_snapshot)]
        disputed = disputed_keys(room.version, [at.state for at in forks], self._differing(forks))
        if not disputed:
            return self._merge(room, forks, {})
        if room.queued:
            await self._database.write(_nothing)
        learnt = self._learnt(room, forks[0], disputed)
        answer = await self._database.run(resolve_in, room.version, [at.state for at in forks], disputed, learnt)
        learnt.precedents.trim()
        self._agreed[room.nid] = _Agreed(forks[0].snapshot, frozenset(disputed), learnt)
        while len(self._agreed) > MAX_AGREED:
            self._agreed.popitem(last=False)
        return self._merge(room, forks, {key: answer.get(key) for key in disputed})

    def changes(self, before: Standing, after: Standing) -> list[StateChange]:
        """How a room's current state changed, in an explicit order."""
        keys = self._lineage.differing(before.head.snapshot, after.head.snapshot)
        return changes_of(before.state, after.state, keys)

    def put_out(self, forks: Sequence[StateAt], now: Standing) -> set[str]:
        """Who is joined by one of the states and is not now."""
        found: set[str] = set()
        for fork in forks:
            keys = self._lineage.differing(fork.snapshot, now.head.snapshot)
            for change in changes_of(fork.state, now.state, keys):
                was_in = change.key[0] == "m.room.member" and change.old is not None and change.old.membership == "join"
                if was_in and (change.new is None or change.new.membership != "join"):
                    found.add(change.key[1])
        return found

    def told(self, room: LiveRoom, wanted: Mapping[StateKey, StateRef]) -> tuple[StateAt, NewSnapshot | None]:
        """A whole state that is known by its entries, written as what differs from the room's present one.

        In a partial room that would be nearly all of it, each time: there it is what differs from the one that was
        told before (`keep_told`).
        """
        base = self.current(room)
        if base.is_partial:
            base = self._told.get(room.nid, base)
        return self.laid_over(base, wanted)

    def keep_told(self, room: LiveRoom, at: StateAt) -> None:
        """A state of a partial room was told, and is written."""
        self._told[room.nid] = at
        while len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)

    def laid_over(self, base: StateAt, wanted: Mapping[StateKey, StateRef]) -> tuple[StateAt, NewSnapshot | None]:
        """A whole state that is known by its entries, written as what differs from `base`."""
        delta: dict[StateKey, StateRef | None] = dict(_difference(base.state, wanted))
        delta.update({key: None for key in base.state if key not in wanted})
        return self._changed(StateAt(base.snapshot, base.state), delta)

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
        return self.follow(base, [StateChange(key, ref, base.state.get(key)) for key, ref in sorted(delta.items())])

    def _learnt(self, room: LiveRoom, fork: StateAt, disputed: Sequence[StateKey]) -> Learnt:
        """What the last resolution in the room learnt, as far as it still holds: as long as forks grow apart, what
        they agree on becomes less, and nothing is added.
        """
        last = self._agreed.pop(room.nid, None)
        if last is None:
            return Learnt({}, Precedents())
        changed = self._lineage.differing(last.snapshot, fork.snapshot)
        if changed is None or not last.disputed.union(changed).issubset(disputed):
            return Learnt({}, last.learnt.precedents)
        return last.learnt

    def _differing(self, forks: Sequence[StateAt]) -> set[StateKey] | None:
        """All keys at which forks differ, and maybe some at which they don't; None: not known."""
        found: set[StateKey] = set()
        for fork in forks[1:]:
            keys = self._lineage.differing(forks[0].snapshot, fork.snapshot)
            if keys is None:
                return None
            found |= keys
        return found

    def _put(self, at: StateAt) -> None:
        self._held[at.snapshot] = at.state
        while len(self._held) > MAX_STATES:
            self._held.popitem(last=False)


def changes_of(before: State, after: State, among: Collection[StateKey] | None = None) -> list[StateChange]:
    """What one state has otherwise than another, in an explicit order.

    `among`: the keys that come into question; without them it looks at every entry, if the two are not one object.
    """
    if before is after:
        return []
    if among is None:
        changes = [
            StateChange(key, ref, old)
            for key, ref in after.items()
            if (old := before.get(key)) is None or old.nid != ref.nid
        ]
        if len(after) < len(before) + len(changes):
            changes += [StateChange(key, None, old) for key, old in before.items() if key not in after]
    else:
        keys = {key for key in among if _nid(before, key) != _nid(after, key)}
        changes = [StateChange(key, after.get(key), before.get(key)) for key in keys]
    changes.sort(key=_KEY)
    return changes


def disputed_keys(
    version: RoomVersion, states: Sequence[State], among: Collection[StateKey] | None = None
) -> list[StateKey]:
    """The keys at which states differ, in an explicit order. `among` is as in `changes_of`."""
    first = states[0]
    disputed = {change.key for other in states[1:] for change in changes_of(first, other, among)}
    if version.state_resolution is StateResolution.V1:
        disputed = {key for key in disputed if len({at[key].nid for at in states if key in at}) > 1}
    return sorted(disputed)


@frozen
class _EventIds(Mapping[StateKey, str]):
    """What is not in dispute as resolution wants it, key → event id: from the first of some states that has it."""

    states: Sequence[State]

    def __getitem__(self, key: StateKey) -> str:
        for state in self.states:
            ref = state.get(key)
            if ref is not None:
                return ref.event_id
        raise KeyError(key)

    def __iter__(self) -> Iterator[StateKey]:
        return iter({key: None for state in self.states for key in state})

    def __len__(self) -> int:
        return len({key for state in self.states for key in state})


def resolve_in(
    cursor: Cursor,
    version: RoomVersion,
    states: Sequence[State],
    disputed: Sequence[StateKey],
    learnt: Learnt | None = None,
) -> dict[StateKey, StateRef]:
    """What stands at the disputed keys. Runs in a database thread and reads what it turns out to need.

    `learnt` is what earlier ones in the room found out; it is written to.
    """
    forks = tuple({key: at[key].event_id for key in disputed if key in at} for at in states)
    # In version 1 there is no dispute about what one fork has and the others know nothing of.
    agreeing = states if version.state_resolution is StateResolution.V1 else states[:1]
    conflict = Conflict(_EventIds(agreeing), forks)
    known: dict[str, StoredEvent] = {}
    if learnt is None:
        learnt = Learnt({}, Precedents())
    nids = {at[key].nid for at in states for key in disputed if key in at}
    difference: set[int] | None = None
    subgraph: set[int] | None = None
    if version.state_resolution is not StateResolution.V1:
        own = [{at[key].nid for key in disputed if key in at} for at in states]
        difference = auth_chains.auth_difference(cursor, own, partial(_all_hold, states), learnt.refuted)
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
        with_precedents = len(known) >= MANY and not any(stored.redacted_by for stored in known.values())
        try:
            answer = resolve_conflict(
                version,
                conflict,
                events,
                rejected,
                None if difference is None else {by_nid[nid] for nid in difference},
                None if subgraph is None else {by_nid[nid] for nid in subgraph},
                learnt.precedents if with_precedents else None,
            )
        except MissingEvent as missing:
            found = event_rows.load_by_ids(cursor, missing.event_ids)
            if not found:
                raise
            _take(known, found.values())
            continue
        return {key: ref_of(known[event_id]) for key, event_id in answer.items()}


def _all_hold(states: Sequence[State], key: StateKey, nid: int) -> bool:
    return all(_nid(at, key) == nid for at in states)


def _nid(state: State, key: StateKey) -> int:
    ref = state.get(key)
    return 0 if ref is None else ref.nid


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

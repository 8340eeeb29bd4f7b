"""Receiving a peer's events into rooms that this server is in.

raw ── checked (format, signature, hash) ── one room at a time ── gaps filled ── judged ── placed
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeVar

import msgspec
import structlog
from attrs import field

from federation.room.auth import Refused
from federation.room.auth import Verdict as AuthVerdict
from federation.room.event import Event, StateKey
from federation.room.identifiers import server_of
from federation.service import service
from homeserver.rooms.accept import Along, Door
from homeserver.rooms.compose import MAX_PREV_EVENTS, Advance
from homeserver.rooms.endorsing import Endorser, NoEndorser, may_have_policy
from homeserver.rooms.live import LiveRoom, Standing, State
from homeserver.rooms.receive.gap import Gaps
from homeserver.rooms.receive.gather import Budget, Gatherer
from homeserver.rooms.receive.judge import Judge
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.receive.outliers import Outliers
from homeserver.rooms.receive.ports import Opinion
from homeserver.rooms.receive.redactions import NONE, Redactions
from homeserver.rooms.receive.states import RoomStates, StateAt, ref_of
from homeserver.rooms.receive.told import ToldStates
from homeserver.rooms.receive.vague import VagueStates
from homeserver.rooms.registry import Rooms
from homeserver.turns import OneAtATime
from storage import gaps as gap_rows
from storage.database import RoomPoisoned
from storage.ports import Cursor, NewEvent, NewSnapshot, RoomHead, StateChange, StateRef, StoredEvent

MOST_FORKS = 10
"""Ends of a room's graph that are one server's events. A server builds upon what it said before, so that more than a
few can only be what is missing here in between, or a flood."""

MOST_BARED = 100
"""Events before those that are let go, among which it is looked for what others said."""

MOST_UNWANTED = 20
"""Soft-failed events, one following the other, behind which it is looked for what is missing."""

UNHEARD_OF: Final[dict[StateKey, StateRef]] = {}
"""The state after an event that its peer cannot show: told apart by identity, as a state is never empty."""
NOTHING = Along()

log = structlog.get_logger("homeserver.rooms.receive")

T = TypeVar("T")

Outcome = Literal["accepted", "known", "soft-failed", "rejected", "dropped", "unfounded"]
"""Unfounded: what the event rests on can't be had now. It is not kept, and comes again with what follows it."""


class Verdict(msgspec.Struct, frozen=True):
    """What became of one event. `why` says more where it was not accepted."""

    outcome: Outcome
    why: str = ""
    event_id: str | None = None
    """Given by `receive`, where the event is well enough formed to have one."""


class _Before(msgspec.Struct, frozen=True):
    """The state before an event, and what has to be written for it."""

    at: StateAt
    snapshots: tuple[NewSnapshot, ...] = ()
    missing_prev: tuple[str, ...] = ()


@service
class Receiver:
    """Takes events into rooms. One event of a room at a time; rooms don't wait for each other."""

    door: Door
    rooms: Rooms
    states: RoomStates
    known: KnownEvents
    judge: Judge
    gatherer: Gatherer
    endorser: Endorser = field(factory=NoEndorser)
    redactions: Redactions = field(init=False)
    gaps: Gaps = field(init=False)
    vague: VagueStates = field(init=False)
    outliers: Outliers = field(init=False)
    told: ToldStates = field(init=False)
    opinions: list[Opinion] = field(factory=list)
    """Asked in turn. Features add theirs while the house is built."""
    _turns: OneAtATime = field(factory=OneAtATime)

    @redactions.default
    def _make_redactions(self) -> Redactions:
        return Redactions(self.known.database, self.known.events, self.known, self.states, self.door.awaited)

    @gaps.default
    def _make_gaps(self) -> Gaps:
        return Gaps(self.known, self.gatherer)

    @vague.default
    def _make_vague(self) -> VagueStates:
        return VagueStates(self.door.identity.server_name, self.states, self.known.database)

    @outliers.default
    def _make_outliers(self) -> Outliers:
        return Outliers(self.door, self.rooms, self.known, self.judge)

    @told.default
    def _make_told(self) -> ToldStates:
        return ToldStates(self.gatherer, self.known, self.outliers)

    async def receive(self, origin: str, room_id: str, raws: Sequence[bytes]) -> list[Verdict]:
        """Take events that a peer sent, in its order. Raises NotFound-like Forbidden for an unknown room."""
        room = await self.rooms.require(room_id)
        checked = await self.gatherer.check(room.version, raws)
        verdicts = []
        for event in checked:
            if isinstance(event, str):
                verdicts.append(Verdict("dropped", event))
            elif event.room_id != room_id:
                verdicts.append(Verdict("dropped", "an event of another room", event.event_id))
            else:
                verdicts.append(msgspec.structs.replace(await self.take(origin, event), event_id=event.event_id))
        return verdicts

    async def take(self, origin: str, event: Event, along: Along = NOTHING) -> Verdict:
        """Take one checked event, with what it rests on. `along`: what goes with one of our own people's."""
        return await self.alone(event.room_id, lambda: self._take(origin, event, Budget(), along))

    async def alone(self, room_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do something with a room's graph while nothing else comes into it from peers."""
        return await self._turns.alone(room_id, work)

    async def _take(
        self, origin: str, event: Event, budget: Budget, along: Along = NOTHING, *, from_gap: bool = False
    ) -> Verdict:
        """Take an event with what lies before it; or, where it is `from_gap`, with what is here of that already."""
        room = await self.rooms.require(event.room_id)
        known = (await self.known.find(room, [event.event_id])).get(event.event_id)
        if known is not None and known.position:
            return Verdict("known")
        left = budget.events
        before = await self._before(origin, room, event, budget, from_gap=from_gap)
        if before is None:
            return Verdict("unfounded", "what it rests on can't be had")
        cited = await self.cited(origin, room, event, budget)
        if cited is None:
            return Verdict("unfounded", "what it cites can't be had")
        if known is None and budget.events != left:  # it may have come with what was fetched
            known = (await self.known.find(room, [event.event_id])).get(event.event_id)
        if known is not None and known.redacted_by:
            event = known.event  # it was redacted before it had a place
        verdict = self.judge.by_auth_events(room, event, cited)
        if not isinstance(verdict, Refused):
            state = before.at.state
            if before.at.is_partial:
                state = await self.vague.to_judge_by(room, event, before.at, cited)
            verdict = await self.judge.by_state(room, event, state)
        if before.at.is_partial and not isinstance(verdict, Refused):
            at, snapshot = self.vague.learn(room, event, before.at, cited)
            if snapshot is not None:
                before = msgspec.structs.replace(before, at=at, snapshots=(*before.snapshots, snapshot))
        unwanted = None
        if not isinstance(verdict, Refused) and may_have_policy(room):
            event, unwanted = await self._review(room, event, before)
        if unwanted is None and not isinstance(verdict, Refused):
            unwanted = await self._opinion(origin, room, event)
        for _ in range(5):
            try:
                return await self._place(event, known, before, verdict, unwanted, along)
            except RoomPoisoned:
                known = (await self.known.find(room, [event.event_id])).get(event.event_id)
        return Verdict("unfounded", "the room could not be written to")

    # -- the state before it ----------------------------------------------------------------------------------

    async def _before(
        self, origin: str, room: LiveRoom, event: Event, budget: Budget, *, from_gap: bool
    ) -> _Before | None:
        if not event.prev_events:
            return _Before(await self.states.get(room, 0))
        if set(event.prev_events) == set(room.standing.head.extremities):
            return _Before(self.states.current(room))
        found = await self._placed(room, event.prev_events)
        if len(found) < len(event.prev_events) and not from_gap:
            gap = await self.gaps.before(origin, room, event)
            for other in () if gap is None else gap.news:
                await self._take(origin, other, budget, from_gap=True)
            room = await self.rooms.require(event.room_id)
            found = await self._placed(room, event.prev_events)
            if gap is not None and not set(event.prev_events) <= found.keys() | gap.past:
                # The peer tells of what came last, but not of what came just before that, or nothing that makes sense.
                return None
        missing = [event_id for event_id in event.prev_events if event_id not in found]
        if missing or any(room.is_lost(stored.position) for stored in found.values()):
            return await self._on_word(origin, room, event, found, missing, budget)
        states = [await self.states.after(room, stored) for stored in found.values()]
        at, snapshot = await self.states.resolve(room, states)
        return _Before(at, () if snapshot is None else (snapshot,))

    async def _placed(self, room: LiveRoom, event_ids: Sequence[str]) -> dict[str, StoredEvent]:
        """Those that are part of the room's graph here, and not only known because others cite them."""
        found = await self.known.find(room, event_ids)
        return {event_id: found[event_id] for event_id in event_ids if event_id in found and found[event_id].position}

    async def _on_word(
        self,
        origin: str,
        room: LiveRoom,
        event: Event,
        found: dict[str, StoredEvent],
        missing: Sequence[str],
        budget: Budget,
    ) -> _Before | None:
        """The gap is too wide: take the state behind it on the peer's word, every event of it judged on its own.

        That is the state after each event that is missing; or else, where such an event can't be had, or where what
        is here of the others may lack members, the state before the one that follows it.
        """
        states = [await self.states.after(room, stored) for stored in found.values()]
        behind: list[dict[StateKey, StateRef] | None] = [UNHEARD_OF]
        if not any(at.is_partial for at in states):
            behind = [await self._state_after(origin, room, event_id, budget) for event_id in missing]
        if any(refs is UNHEARD_OF for refs in behind):
            states = [at for at in states if not at.is_partial]
            behind = [await self.state_before(origin, room, event.event_id, budget)]
        snapshots: list[NewSnapshot] = []
        for refs in behind:
            if refs is None or refs is UNHEARD_OF:
                return None
            at, snapshot = self.states.told(room, refs)
            if room.partial is not None and snapshot is not None:
                await self.outliers.write(room, (), [snapshot])
                self.states.keep_told(room, at)
                snapshot = None
            states.append(at)
            if snapshot is not None:
                snapshots.append(snapshot)
        at = states[0]
        if len(states) > 1:
            at, snapshot = await self.states.resolve(room, states)
            if snapshot is not None:
                snapshots.append(snapshot)
        return _Before(at, tuple(snapshots), tuple(missing))

    async def _state_after(
        self, origin: str, room: LiveRoom, event_id: str, budget: Budget
    ) -> dict[StateKey, StateRef] | None:
        """The state after an event that has no place here, on a peer's word; None where that can't be believed, and
        `UNHEARD_OF` where the event itself can't be had.
        """
        refs = await self.state_before(origin, room, event_id, budget)
        if refs is None:
            return UNHEARD_OF
        stored = await self.known.find(room, [event_id])
        if event_id not in stored:
            fetched = await self.gatherer.fetch(origin, room.version, room.room_id, [event_id], budget)
            if not fetched.events:
                return UNHEARD_OF
            await self.outliers.keep(room, fetched.events, stored)
        itself = stored.get(event_id)
        if itself is None or itself.room_nid != room.nid:
            return None
        if itself.event.state_key is not None and not itself.rejected:
            await self.outliers.anchor(room, [itself])
            refs[itself.event.type, itself.event.state_key] = ref_of(itself)
        return refs

    async def state_before(
        self, origin: str, room: LiveRoom, event_id: str, budget: Budget
    ) -> dict[StateKey, StateRef] | None:
        """The state before an event on a peer's word. All events of it and of its auth chain are had, as outliers
        where they are new; None where that can't be.
        """
        budget.states -= 1
        told = None if budget.states < 0 else await self.gatherer.state_ids(origin, room.room_id, event_id)
        if told is None:
            return None
        delivered = await self.told.fetch(origin, room, event_id, told, budget)
        return None if delivered is None else await self.told.take(room, told, delivered)

    # -- what it cites ----------------------------------------------------------------------------------------

    async def cited(self, origin: str, room: LiveRoom, event: Event, budget: Budget) -> dict[str, StoredEvent] | None:
        """Every auth event, fetched with what it cites in turn where it is not here; None if some can't be had."""
        stored = await self.known.cited(room, event)
        wanted = [event_id for event_id in event.auth_events if event_id not in stored]
        fetched: dict[str, Event] = {}
        while wanted:
            found = await self.gatherer.fetch(origin, room.version, room.room_id, wanted, budget)
            if len(found.events) < len(wanted):
                return None
            fetched.update(found.events)
            next_ids = {event_id for other in found.events.values() for event_id in other.auth_events} - set(fetched)
            known = await self.known.find(room, next_ids - set(stored))
            stored.update(known)
            wanted = sorted(next_ids - set(stored))
        await self.outliers.keep(room, fetched, stored)
        return stored

    # -- where it leaves the room -----------------------------------------------------------------------------

    async def _review(self, room: LiveRoom, event: Event, before: _Before) -> tuple[Event, Refused | None]:
        """The policy server's word. It is not bothered with what the room does not allow any more."""
        if room.partial is None:
            now = await self.judge.by_state(room, event, await self._current(room, before))
            if isinstance(now, Refused):
                return event, None
        event, why = await self.endorser.review(room, event)
        return event, None if why is None else Refused("policy", why)

    async def _opinion(self, origin: str, room: LiveRoom, event: Event) -> Refused | None:
        """What features say; of what our own people send they were asked before."""
        if origin == self.door.identity.server_name:
            return None
        for opinion in self.opinions:
            why = await opinion(room, event)
            if why is not None:
                return Refused("opinion", why)
        return None

    async def _place(
        self,
        event: Event,
        known: StoredEvent | None,
        before: _Before,
        verdict: AuthVerdict,
        unwanted: Refused | None,
        along: Along,
    ) -> Verdict:
        refused = verdict if isinstance(verdict, Refused) else None
        effect = NONE
        if refused is None:
            effect = await self.redactions.effect_of(await self.rooms.require(event.room_id), event, before.at)
        nid = self.outliers.next_nid() if known is None else known.nid
        is_kept = False
        is_followed = await self._is_followed(await self.rooms.require(event.room_id), event)
        behind = await self._missing_behind(await self.rooms.require(event.room_id), event)
        while True:
            room = await self.rooms.require(event.room_id)
            standing = room.standing
            is_fork = not set(standing.head.extremities) <= set(event.prev_events)
            if is_fork and not is_kept and refused is None and event.state_key is not None:
                # It will meet the other forks' state in resolution, which finds events in the database only. (One of
                # our people's events may have made the fork just now.)
                is_kept = True
                if known is None:
                    known = self.outliers.make(room, event, nid)
                    await self.outliers.write(room, [known])
                else:
                    await self.outliers.anchor(room, [known])
                continue
            soft = unwanted if refused is None and not is_followed else None
            if refused is None and not is_followed and room.partial is None:
                now = await self.judge.by_state(room, event, await self._current(room, before))
                soft = now if isinstance(now, Refused) else unwanted
            after, snapshots = self._after(event, nid, before, refused is not None)
            moved = standing
            put_out: frozenset[str] = frozenset()
            if refused is None and soft is None:
                moved, more = await self._moved(room, event, None if is_followed else after)
                snapshots = [*snapshots, *more]
                if is_fork and room.partial is None:
                    put_out = self._put_out(event, before.at, [self.states.current(room), after], moved)
            if room.standing is standing and self.rooms.peek(event.room_id) is room:
                break  # nobody moved the room while its new state was worked out
        stored = StoredEvent(
            nid=nid,
            position=0,
            room_nid=room.nid,
            event=event,
            before=before.at.snapshot,
            after=after.snapshot,
            rejected=refused is not None,
            soft_failed=soft is not None,
            redacted_by=0 if known is None else known.redacted_by,
            replaces=_replaced(standing, event),
            received_ts=self.door.clock.now_ms(),
            device_id=None if along.device is None else along.device[0],
            txn_id=None if along.device is None else along.device[1],
        )
        advance = Advance(room)
        advance.new.append(NewEvent(stored, self.states.changes(standing, moved), was_outlier=known is not None))
        advance.snapshots = snapshots
        if refused is None and soft is None:
            advance.missing_prev = [*before.missing_prev, *behind]
        advance.standing = moved
        advance.put_out = put_out
        also, redacted = NONE.apply(room, stored) if soft is not None else effect.apply(room, stored)
        await self.door.append(advance, transaction=along.transaction, also=[*along.also, *also], redacted=redacted)
        if refused is not None:
            return Verdict("rejected", refused.why)
        return Verdict("accepted") if soft is None else Verdict("soft-failed", soft.why)

    async def _is_followed(self, room: LiveRoom, event: Event) -> bool:
        """Whether events that are here follow this one, which comes late: the room has moved on over it already."""
        if event.depth > room.standing.head.depth:
            return False  # so that none does, or its maker lied to its own disadvantage
        if room.queued:
            await self.known.database.write(_nothing)
        return event.event_id in await self.known.database.run(gap_rows.missing_prev, room.nid)

    async def _missing_behind(self, room: LiveRoom, event: Event) -> list[str]:
        """What events lack that the room did not want (soft failure), and that become a part of it as this one follows
        them: a gap like any other from now on.
        """
        missing: list[str] = []
        frontier = [one for one in event.prev_events if one not in room.standing.head.extremities]
        for _ in range(MOST_UNWANTED):
            found = (await self._placed(room, frontier)).values()
            before = [one for stored in found if stored.soft_failed for one in stored.event.prev_events]
            if not before:
                break
            placed = await self._placed(room, before)
            missing += [event_id for event_id in before if event_id not in placed]
            frontier = list(placed)
        return missing

    async def _current(self, room: LiveRoom, before: _Before) -> State:
        """The room as it is now. Behind a gap it is not known what it is: there, what lies before the event counts too,
        or everybody who came in the gap would be a stranger.
        """
        standing = self.states.current(room)
        if not before.missing_prev:
            return standing.state
        merged, _ = await self.states.resolve(room, [standing, before.at])
        return merged.state

    def _after(self, event: Event, nid: int, before: _Before, is_refused: bool) -> tuple[StateAt, list[NewSnapshot]]:
        snapshots = list(before.snapshots)
        if event.state_key is None or is_refused:
            return before.at, snapshots
        key = (event.type, event.state_key)
        membership = event.content.get("membership") if event.type == "m.room.member" else None
        ref = StateRef(nid, event.event_id, membership if isinstance(membership, str) else None)
        after, snapshot = self.states.follow(before.at, [StateChange(key, ref, before.at.state.get(key))])
        return after, [*snapshots, snapshot]

    async def _moved(self, room: LiveRoom, event: Event, after: StateAt | None) -> tuple[Standing, list[NewSnapshot]]:
        """The room once the event is its newest: what it follows is no extremity any more.

        `after` is the state after the event; None where it is no extremity either, as others follow it.
        """
        head = room.standing.head
        others = tuple(event_id for event_id in head.extremities if event_id not in event.prev_events)
        if len(others) >= MOST_FORKS:
            others = await self._without_flood(room, others, event)
        if after is None and (not others or others == head.extremities):
            return room.standing, []
        extremities = others if after is None else (*others, event.event_id)
        depth = max(head.depth, event.depth)
        states = [] if after is None else [after]
        if others:
            found = await self.known.find(room, others)
            states = [*[await self.states.after(room, stored) for stored in found.values()], *states]
        current, snapshot = states[0], None
        if len(states) > 1:
            current, snapshot = await self.states.resolve(room, states)
        standing = Standing(RoomHead(extremities, depth, current.snapshot), current.state)
        return standing, [] if snapshot is None else [snapshot]

    def _put_out(self, event: Event, before: StateAt, forks: Sequence[StateAt], moved: Standing) -> frozenset[str]:
        """Servers that are in the room by one of the states that met here and not by what came of them.

        Whom the event itself puts out its maker tells, if it knew that they were there.
        """
        users = self.states.put_out(forks, moved)
        if event.type == "m.room.member" and event.state_key in users:
            ref = before.state.get((event.type, event.state_key))
            if ref is not None and ref.membership == "join":
                users.remove(event.state_key)
        if not users:
            return frozenset()
        present = {server_of(key[1]) for key, ref in moved.state.items() if ref.membership == "join"}
        gone = {str(server_of(user_id)) for user_id in users} - present
        return frozenset(gone - {self.door.identity.server_name})

    async def _without_flood(self, room: LiveRoom, extremities: tuple[str, ...], event: Event) -> tuple[str, ...]:
        """Extremities beside a new event, of which its server has not more than its share, and not more than one event
        can join: the oldest are let go, but not what others said before them.
        """
        server = server_of(event.sender)
        found = await self.known.find(room, extremities)
        own = [one for one in extremities if one in found and server_of(found[one].event.sender) == server]
        gone = set(own[: max(0, len(own) + 1 - MOST_FORKS)])
        left = [event_id for event_id in extremities if event_id not in gone]
        if gone:
            left = [*await self._bared(room, [found[one] for one in sorted(gone)], [*left, *event.prev_events]), *left]
        return tuple(left[1 - MAX_PREV_EVENTS :])

    async def _bared(self, room: LiveRoom, gone: Sequence[StoredEvent], ends: Sequence[str]) -> list[str]:
        """Events of others that came before these and that nothing follows any more once these are let go."""
        server = server_of(gone[0].event.sender)
        bared: dict[str, StoredEvent] = {}
        frontier = [event_id for stored in gone for event_id in stored.event.prev_events]
        while frontier and len(bared) < MOST_BARED:
            found = await self._placed(room, list(dict.fromkeys(frontier)))
            bared.update(found)
            theirs = [stored for stored in found.values() if server_of(stored.event.sender) == server]
            frontier = [one for stored in theirs for one in stored.event.prev_events if one not in bared]
        floor = min((stored.event.depth for stored in bared.values()), default=0)
        followed = set(ends)
        frontier = list(ends)
        while frontier:
            found = await self._placed(room, frontier)
            cited = {one for stored in found.values() if stored.event.depth > floor for one in stored.event.prev_events}
            frontier = sorted(cited - followed)
            followed |= cited
        return [
            event_id
            for event_id, stored in bared.items()
            if event_id not in followed
            and server_of(stored.event.sender) != server
            and not (stored.rejected or stored.soft_failed)
        ]


def _nothing(cursor: Cursor) -> None:
    """A write that writes nothing: done when everything queued before it is."""


def _replaced(standing: Standing, event: Event) -> int:
    if event.state_key is None:
        return 0
    ref = standing.state.get((event.type, event.state_key))
    return 0 if ref is None else ref.nid

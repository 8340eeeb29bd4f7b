"""An index over the auth graph: "which events are in A's auth chain but not in B's" is asked without walking events.

The graph is covered with chains: every state event has a place (chain, seq), and an event reaches all earlier ones of
its own chain. What it reaches beyond that is written as links (chain, seq) → (target chain, target seq). A member event
of a room with one moderator costs one place and a link or two, however long the room's history is.

    chain 4    create ── member(alice) ── power levels ── join rules      seq 1 2 3 4
    chain 9    member(bob), joined                                        seq 1        link (9, 1) → (4, 4)
    chain 9    member(bob), with a display name now                       seq 2        cites (9, 1): no new link needed

What a set of events reaches is then a map chain → greatest seq, found by following links between chains: few, since
only moderators' and invites' chains point further than to the room's rules. A chain's number is its first event's nid.

The idea of chain covers: Chen and Chen, "An efficient algorithm for answering graph reachability queries" (ICDE 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from functools import partial

from federation.room.event import StateKey
from storage import strings
from storage.errors import UnknownAuthEvent
from storage.ports import Cursor, StoredEvent
from storage.sql import among

Place = tuple[int, int]
"""(chain, seq); seq counts from 1."""

Reach = dict[int, int]
"""Chain → the greatest seq that is reached in it."""

_CITED_TYPES = frozenset(
    {
        "m.room.create",
        "m.room.join_rules",
        "m.room.member",
        "m.room.power_levels",
        "m.room.third_party_invite",
    }
)
"""Only these extend a chain: a topic that took the place after the power levels would be a dead end there."""

FEW_LINKS = 64
ALL_LINKS = 2**31


def assign_places(cursor: Cursor, events: Iterable[StoredEvent]) -> dict[int, Place]:
    """Give each state event its place, and write the links. Cited events come before those that cite them.

    Returns places by nid. Raises UnknownAuthEvent where an accepted event cites one without a place. A rejected one
    then gets no place, since no state will ever hold it, and neither does an outlier: an invitation to a room of which
    this server has nothing else. It gets one if the room comes after it.
    """
    chosen = [stored for stored in events if stored.event.state_key is not None]
    if not chosen:
        return {}
    places, tips = cursor.writer.chain_places, cursor.writer.chain_tips
    _read_cited(cursor, chosen)
    assigned: dict[int, Place] = {}
    links: list[tuple[int, int, int, int]] = []
    reaches: dict[tuple[str, ...], Reach] = {}  # whole rooms cite the same few events
    for stored in chosen:
        event = stored.event
        reach = reaches.get(event.auth_events)
        if reach is None:
            reach = {}
            missing = None
            for event_id in event.auth_events:
                place = places.get(event_id)
                if place is None:
                    missing = event_id
                    break
                reach[place[0]] = max(place[1], reach.get(place[0], 0))
            if missing is not None:
                if stored.rejected or not stored.position:
                    continue
                raise UnknownAuthEvent(f"{event.event_id} cites an event that is not stored: {missing}")
            reaches[event.auth_events] = reach
        place = None
        if event.type in _CITED_TYPES:
            for chain, seq in reach.items():
                if tips.get(chain) == seq:
                    place = chain, seq + 1
                    break
        if place is None:
            place = stored.nid, 1
        links += [(*place, chain, seq) for chain, seq in reach.items() if chain != place[0]]
        places.put(event.event_id, place)
        tips.put(*place)
        assigned[stored.nid] = place
    cursor.insert_many("auth_chain_links", ("chain", "seq", "target", "target_seq"), links)
    return assigned


Held = Callable[[StateKey, int], bool]
"""Whether every fork has an event (nid) at a key of its state."""


def auth_difference(
    cursor: Cursor, forks: Sequence[Collection[int]], held: Held | None = None, refuted: Reach | None = None
) -> set[int]:
    """Event nids that are in the full auth chain of some fork's events but not of every fork's, and those events that
    some forks have and others have not: they count as conflicted either way.

    `forks` are whole states; or, so that nothing need be done for each entry of a large room, only what not all of
    them have: then `held` tells of the rest.
    An event is in its own full auth chain here. Raises LookupError for a nid that has no place.

    `refuted` is what is learnt of the events that all forks have, for a later call in which there are fewer of them
    and none besides: chain → the seq from which upwards none of them reaches it.
    Spec: https://spec.matrix.org/v1.19/rooms/v2/#definitions (auth difference).
    """
    sets = [frozenset(fork) for fork in forks]
    if len(sets) < 2:
        return set()
    common = frozenset.intersection(*sets)
    if held is None and common:
        held = partial(_is_among, common)
    conflicted = frozenset.union(*sets) - common
    if not conflicted:
        return set()
    places = _places_of(cursor, conflicted)
    graph = _Graph(cursor, {} if refuted is None else refuted)
    reaches = [graph.reach([places[nid] for nid in fork - common]) for fork in sets]
    # What all forks hold is most of a large room, so it is not followed downwards. Only what some conflicted event
    # reaches can be in the difference, and from there one looks upwards for an event that all forks hold.
    # The conflicted ones themselves, most of which nobody cites, need no such look.
    own = set(places.values())
    spans: dict[int, Place] = {}
    for chain in {chain for reach in reaches for chain in reach}:
        everywhere = min(reach.get(chain, 0) for reach in reaches)
        somewhere = max(reach.get(chain, 0) for reach in reaches)
        while somewhere > everywhere and (chain, somewhere) in own:
            somewhere -= 1
        everywhere = graph.highest_under(held, chain, everywhere, somewhere)
        if somewhere > everywhere:
            spans[chain] = everywhere + 1, somewhere
    return {*conflicted, *_events_in(cursor, spans)}


def auth_chain(cursor: Cursor, nids: Collection[int]) -> set[int]:
    """All that the given state events rest on: what they cite, and what that cites in turn.

    One of the given is among them only if another cites it. Raises LookupError for a nid that has no place.
    """
    if not nids:
        return set()
    graph = _Graph(cursor)
    beneath = graph.beneath(_places_of(cursor, nids).values())
    return _events_in(cursor, {chain: (1, upto) for chain, upto in graph.reach(list(beneath.items())).items()})


def conflicted_subgraph(cursor: Cursor, conflicted: Collection[int]) -> set[int]:
    """All events on a path, along auth events, from one of the given events to another, these two included.

    Spec: https://spec.matrix.org/v1.19/rooms/v12/#state-resolution (conflicted state subgraph).
    """
    if not conflicted:
        return set()
    places = _places_of(cursor, conflicted)
    graph = _Graph(cursor)
    upper = graph.reach(list(places.values()))
    lower = graph.lowest_that_reach(places.values(), upper)
    return _events_in(cursor, {chain: (seq, upper[chain]) for chain, seq in lower.items() if seq <= upper[chain]})


class _Graph:
    """The links between chains, read chain by chain as they are needed."""

    def __init__(self, cursor: Cursor, refuted: Reach | None = None) -> None:
        self._cursor = cursor
        self._links: dict[int, list[tuple[int, int, int]]] = {}
        """Chain → its links as (seq, target chain, target seq)."""
        self._refuted: Reach = {} if refuted is None else refuted
        """What is not reached from above, as far as that was looked for."""

    def reach(self, places: Collection[Place]) -> Reach:
        """Everything in the full auth chains of the events at `places`."""
        reached: Reach = {}
        for chain, seq in places:
            if seq > reached.get(chain, 0):
                reached[chain] = seq
        todo = dict(reached)
        while todo:
            self._read(todo)
            further: Reach = {}
            for chain, upto in todo.items():
                for seq, target, target_seq in self._links[chain]:
                    if seq <= upto and target_seq > reached.get(target, 0):
                        reached[target] = further[target] = target_seq
            todo = further
        return reached

    def beneath(self, places: Collection[Place]) -> Reach:
        """What the events at `places` cite, by chain."""
        self._read({chain for chain, _ in places})
        cited: Reach = {}
        for chain, seq in places:
            # An event stands on the one before it in its chain because it cites that one.
            below = [(chain, seq - 1)] if seq > 1 else []
            below += [(target, target_seq) for at, target, target_seq in self._links[chain] if at == seq]
            for target, target_seq in below:
                cited[target] = max(target_seq, cited.get(target, 0))
        return cited

    def lowest_that_reach(self, places: Iterable[Place], within: Reach) -> Reach:
        """For each chain of `within`, the lowest seq from which one of `places` is reached; without those that do not.

        `within` must be closed: a `reach`.
        """
        lowest = _lowest(places)
        self._read(within)
        changed = True
        while changed:
            changed = False
            for chain, upto in within.items():
                for seq, target, target_seq in self._links[chain]:
                    if (
                        seq <= upto
                        and target_seq >= lowest.get(target, target_seq + 1)
                        and seq < lowest.get(chain, seq + 1)
                    ):
                        lowest[chain] = seq
                        changed = True
        return lowest

    def highest_under(self, tops: Held | None, chain: int, above: int, upto: int) -> int:
        """The greatest seq of a chain that one of the events in `tops` reaches, if it is > `above` and <= `upto`.

        Otherwise `above`. None: there are no such events.
        """
        if tops is None:
            return above
        # What is reached of a chain is its beginning, whose end can be searched for: mostly it is near the top,
        # hence in growing steps from there until something is reached, and then between the last two.
        low, high = above, min(upto, self._refuted.get(chain, upto + 1) - 1)
        step: int | None = 0
        while low < high:
            seq = max(low + 1, high - step) if step is not None else (low + high + 1) // 2
            if self._is_under(tops, chain, seq):
                low, step = seq, None
            else:
                high = seq - 1
                step = step if step is None else 2 * step + 1
        return low

    def _is_under(self, tops: Held, chain: int, seq: int) -> bool:
        """Whether one of `tops` reaches a place. If none does, that is remembered of all that was looked at."""
        refuted = self._refuted
        seen: Reach = {}
        todo: Reach = {chain: seq}
        while todo:
            if self._any_at_or_after(tops, todo):
                return True
            seen.update(todo)
            citing = self._citing_any(tops, todo)
            if citing is None:
                return True
            todo = {
                origin: origin_seq
                for origin, origin_seq in _lowest(citing).items()
                if origin_seq < min(refuted.get(origin, origin_seq + 1), seen.get(origin, origin_seq + 1))
            }
        refuted.update(seen)
        return False

    def _citing_any(self, tops: Held, targets: Reach) -> list[Place] | None:
        """The places with a link to one of several or to a later one of its chain; None if one of `tops` is seen to be
        among them on the way.
        """
        if len(targets) > 1:
            limit = FEW_LINKS * len(targets)
            condition, parameters = among(self._cursor, "target", list(targets))
            rows = self._cursor.execute(
                f"SELECT target, target_seq, chain, seq FROM auth_chain_links WHERE {condition} LIMIT ?",
                [*parameters, limit],
            ).fetchall()
            if len(rows) < limit:
                return [(chain, seq) for target, target_seq, chain, seq in rows if target_seq >= targets[target]]
        found: list[Place] = []
        for target, target_seq in targets.items():
            citing = self._citing(target, target_seq, FEW_LINKS)
            if len(citing) == FEW_LINKS:
                # What half the room cites is found with the first few.
                if self._any_at_or_after(tops, _lowest(citing)):
                    return None
                citing = self._citing(target, target_seq, ALL_LINKS)
            found += citing
        return found

    def _citing(self, target: int, target_seq: int, limit: int) -> list[Place]:
        """The places with a link to a place or to a later one of its chain."""
        return [
            (chain, seq)
            for chain, seq in self._cursor.execute(
                "SELECT chain, seq FROM auth_chain_links WHERE target = ? AND target_seq >= ? LIMIT ?",
                (target, target_seq, limit),
            ).fetchall()
        ]

    def _any_at_or_after(self, tops: Held, places: Reach) -> bool:
        condition, parameters = among(self._cursor, "chain", list(places))
        rows = self._cursor.execute(
            f"SELECT nid, type_nid, key_nid, chain, chain_seq FROM events WHERE {condition}", parameters
        ).fetchall()
        rows = [row for row in rows if row[4] >= places[row[3]]]
        texts = strings.texts_of(self._cursor, {nid for row in rows for nid in row[1:3]})
        return any(tops((texts[type_nid], texts[key_nid]), nid) for nid, type_nid, key_nid, _, _ in rows)

    def _read(self, chains: Iterable[int]) -> None:
        missing = [chain for chain in chains if chain not in self._links]
        if not missing:
            return
        for chain in missing:
            self._links[chain] = []
        condition, parameters = among(self._cursor, "chain", missing)
        for chain, *link in self._cursor.execute(
            f"SELECT chain, seq, target, target_seq FROM auth_chain_links WHERE {condition}", parameters
        ).fetchall():
            self._links[chain].append((link[0], link[1], link[2]))


def _is_among(nids: Set[int], key: StateKey, nid: int) -> bool:
    return nid in nids


def _lowest(places: Iterable[Place]) -> Reach:
    """The lowest seq of each chain."""
    lowest: Reach = {}
    for chain, seq in places:
        lowest[chain] = min(seq, lowest.get(chain, seq))
    return lowest


def _places_of(cursor: Cursor, nids: Collection[int]) -> dict[int, Place]:
    condition, parameters = among(cursor, "nid", sorted(nids))
    places: dict[int, Place] = {
        nid: (chain, seq)
        for nid, chain, seq in cursor.execute(
            f"SELECT nid, chain, chain_seq FROM events WHERE {condition} AND chain IS NOT NULL", parameters
        ).fetchall()
    }
    if len(places) < len(nids):
        raise LookupError(f"events without a place in the auth graph: {sorted(set(nids) - set(places))[:10]}")
    return places


def without_place(cursor: Cursor, nids: Collection[int]) -> set[int]:
    """Those of the events that were written without what they cite."""
    condition, parameters = among(cursor, "nid", sorted(nids))
    rows = cursor.execute(f"SELECT nid FROM events WHERE {condition} AND chain IS NULL", parameters).fetchall()
    return {nid for (nid,) in rows}


def _events_in(cursor: Cursor, spans: Mapping[int, Place]) -> set[int]:
    """The events of each chain from one seq to another, both included."""
    found: set[int] = set()
    for chain, (first, last) in spans.items():
        found.update(
            nid
            for (nid,) in cursor.execute(
                "SELECT nid FROM events WHERE chain = ? AND chain_seq BETWEEN ? AND ?", (chain, first, last)
            ).fetchall()
        )
    return found


def _read_cited(cursor: Cursor, events: Sequence[StoredEvent]) -> None:
    """Make the writer know the places of what `events` cite, and how long those chains are."""
    memory = cursor.writer
    cited = {event_id for auth_events in {stored.event.auth_events for stored in events} for event_id in auth_events}
    others = cited - {stored.event.event_id for stored in events}
    missing = {event_id for event_id in others if memory.chain_places.get(event_id) is None}
    if missing:
        condition, parameters = among(cursor, "event_id", sorted(missing))
        for event_id, chain, seq in cursor.execute(
            f"SELECT event_id, chain, chain_seq FROM events WHERE {condition} AND chain IS NOT NULL", parameters
        ).fetchall():
            memory.chain_places.put(event_id, (chain, seq))
    chains = {
        place[0]
        for event_id in cited
        if (place := memory.chain_places.get(event_id)) is not None and memory.chain_tips.get(place[0]) is None
    }
    for chain in sorted(chains):  # one by one: each is a look at the end of an index, however long the chain is
        row = cursor.execute("SELECT MAX(chain_seq) FROM events WHERE chain = ?", (chain,)).fetchone()
        assert row is not None
        memory.chain_tips.put(chain, row[0])

"""What must hold when everything is over. Each function gives the faults that it found, in words.

The graph, the verdicts on events and the state are read from memory and disk of every honest server, and held against
each other and against `reference`. To add an invariant, write a function that gives faults and call it in
`Simulation.run_it`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from attrs import frozen

from federation.room.event import Event
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from homeserver.streams.tokens import parse_room_token
from storage import events as event_rows
from storage import rooms as room_rows
from storage.gaps import missing_prev
from storage.ports import FREE_IN_A_GAP, Cursor
from tests.simulation.people import Broken, Person, Seen
from tests.simulation.reference import Reference
from tests.simulation.trouble import EVIL

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.simulation import Simulation

StateIds = dict[tuple[str, str], str]


@frozen
class Copy:
    """One server's copy of a room."""

    machine: Machine
    events: Mapping[str, tuple[Event, bool, bool, bool]]
    """By id: the event, and whether it has a place, is rejected, is soft-failed."""
    extremities: tuple[str, ...]
    state: StateIds
    gaps: frozenset[str]
    """Events that it knows to lack, and that whoever reads back makes it ask for, with what comes before them."""

    @property
    def accepted(self) -> set[str]:
        """Events that have a place in the room here."""
        return {event_id for event_id, (_, placed, rejected, _) in self.events.items() if placed and not rejected}

    @property
    def welcome(self) -> set[str]:
        """Without those that are thought to have come too late (soft failure)."""
        return {event_id for event_id in self.accepted if not self.events[event_id][3]}

    @property
    def graph(self) -> set[str]:
        """Events that the newest ones follow, as far as they are here."""
        return self._with_past(self.extremities)

    def _with_past(self, event_ids: Iterable[str]) -> set[str]:
        """Events and those that they follow, as far as they are here."""
        found: set[str] = set()
        accepted = self.accepted
        frontier = list(event_ids)
        while frontier:
            event_id = frontier.pop()
            if event_id in accepted and event_id not in found:
                found.add(event_id)
                frontier.extend(self.events[event_id][0].prev_events)
        return found

    @property
    def common(self) -> set[str]:
        """The graph without a hostile server's last words, as far as they are followed by nobody else's: whether others
        hear of them is up to that server."""
        graph = self.graph
        return self._with_past(one for one in graph if _server(self.events[one][0].sender) != EVIL)

    @property
    def common_ends(self) -> set[str]:
        common = self.common
        return common.difference(*(self.events[event_id][0].prev_events for event_id in common))

    @property
    def rejected(self) -> set[str]:
        return {event_id for event_id, (_, _, rejected, _) in self.events.items() if rejected}


def _read(cursor: Cursor, room_id: str) -> list[tuple[Event, bool, bool, bool]]:
    nid = room_rows.find_nid(cursor, room_id)
    if nid is None:
        return []
    nids = [one for (one,) in cursor.execute("SELECT nid FROM events WHERE room_nid = ?", (nid,)).fetchall()]
    found = event_rows.load_events(cursor, nids)
    return [(one.event, bool(one.position), one.rejected, one.soft_failed) for one in found.values()]


def _positions(cursor: Cursor, room_id: str) -> dict[str, int]:
    rows = cursor.execute(
        "SELECT e.event_id, e.position FROM events e JOIN rooms r ON r.nid = e.room_nid"
        " WHERE r.room_id = ? AND e.position > 0",
        (room_id,),
    )
    return dict(rows.fetchall())


def _fetched_later(machine: Machine, positions: Mapping[str, int]) -> set[str]:
    """Events that fill a gap: they stand in the numbers that the stream left free before what is behind it."""
    stream = sorted(machine.announced)
    found = set()
    for event_id, position in positions.items():
        behind = bisect_left(stream, position)
        before = stream[behind - 1] if behind else 0
        if behind < len(stream) and stream[behind] != position and stream[behind] - before >= FREE_IN_A_GAP:
            found.add(event_id)
    return found


def copy_of(simulation: Simulation, machine: Machine, room_id: str) -> Copy | None:
    """Its copy of a room that it is in; None where it is not."""
    room = simulation.wait(machine.here.house.rooms.get(room_id))
    if room is None or not room.local_joined:
        return None
    return Copy(
        machine,
        events_of(simulation, machine, room_id),
        tuple(room.visible.head.extremities),
        {key: ref.event_id for key, ref in room.visible.state.items()},
        frozenset(simulation.wait(machine.here.house.database.run(missing_prev, room.nid))),
    )


def events_of(simulation: Simulation, machine: Machine, room_id: str) -> dict[str, tuple[Event, bool, bool, bool]]:
    """All that it has on disk of a room, whether it is in it or not."""
    found = simulation.wait(machine.here.house.database.run(_read, room_id))
    return {one[0].event_id: one for one in found}


def copies_of(simulation: Simulation, room_id: str) -> list[Copy]:
    found = (copy_of(simulation, machine, room_id) for machine in simulation.honest)
    return [copy for copy in found if copy is not None]


# -- after healing ---------------------------------------------------------------------------------------------------


def after_healing(simulation: Simulation) -> list[str]:
    """Whoever was told that a message is sent need say nothing more for everybody to have it, or at least to know of
    the gap in which it stands: where nobody who could be reached gave what was before an event, it is read later.
    """
    faults = []
    for room_id in simulation.rooms:
        copies = copies_of(simulation, room_id)
        whole = Reference(ROOM_VERSIONS[simulation.versions[room_id]], _all_events(simulation, room_id))
        for copy in copies:
            reference = _reference_of(ROOM_VERSIONS[simulation.versions[room_id]], copy)
            own = {
                event_id for event_id in copy.welcome if _server(copy.events[event_id][0].sender) == copy.machine.name
            }
            for other in copies:
                beyond = set().union(*map(reference.past, other.gaps))
                lacking = own - other.accepted - other.rejected - beyond
                entered = simulation.network.entries
                name = other.machine.name
                if lacking := {
                    event_id
                    for event_id in lacking
                    if _was_there(reference, name, event_id, entered)
                    or _crossed(whole, _entries(reference, name, entered), event_id)
                }:
                    told = ", ".join(sorted(_told(copy.events[event_id][0]) for event_id in lacking))
                    faults.append(
                        f"{other.machine.name} was never told by {copy.machine.name} of {told} "
                        f"in {simulation.called(room_id)}"
                    )
    return faults


def _was_there(reference: Reference, server: str, event_id: str, entered: Collection[str]) -> bool:
    """Whether a server was in the room at an event, and has not come in anew since."""
    entries = _entries(reference, server, entered)
    past = reference.past(event_id)
    return event_id in reference.after and entries <= past and bool(_people(reference, [event_id], server))


def _crossed(whole: Reference, entries: Collection[str], event_id: str) -> bool:
    """Whether a server came in beside an event, so that this is neither its past nor was sent to who was there."""
    past = whole.past(event_id)
    return not past.issuperset(entries) and not any(event_id in whole.past(entry) for entry in entries)


def _entries(reference: Reference, server: str, entered: Collection[str]) -> set[str]:
    """Joins by which a server came into the room: it was handed to it, or nobody of it was there before."""
    entries = set()
    for event_id, event in reference.events.items():
        is_join = event.type == "m.room.member" and event.content.get("membership") == "join"
        if is_join and _server(event.state_key or "") == server:
            is_first = event_id in reference.after and not _people(reference, event.prev_events, server)
            if event_id in entered or is_first:
                entries.add(event_id)
    return entries


def _people(reference: Reference, event_ids: Iterable[str], server: str) -> list[str]:
    """Who of a server is in the room after these events."""
    state = reference.state_of(event_ids)
    return [
        key
        for (event_type, key), event_id in state.items()
        if event_type == "m.room.member"
        and _server(key) == server
        and reference.events[event_id].content.get("membership") == "join"
    ]


def _server(user_id: str) -> str:
    return user_id.partition(":")[2]


def _told(event: Event) -> str:
    return f"{event.event_id[:8]} ({event.type.removeprefix('m.room.')} by {event.sender})"


# -- at rest ---------------------------------------------------------------------------------------------------------


def at_rest(simulation: Simulation) -> list[str]:
    """Queues are empty, and nobody waits for anything but the next sync."""
    faults = []
    if simulation.under_way:
        faults.append(f"{simulation.under_way} things that people began never came to an end")
    if simulation.network.under_way > len(simulation.people):
        faults.append(f"{simulation.network.under_way} requests between servers have no answer yet")
    for machine in simulation.honest:
        house = machine.here.house
        seen = {
            "tasks": house.tasks.names,
            "writes": house.database.queue_length,
            "database work": sum(hands.under_way for hands in machine.hands),
            "requests to others": 0 if machine.line is None else len(machine.line.waiting),
            "waiting syncs": max(0, house.hub.waiting - sum(person.machine is machine for person in simulation.people)),
        }
        if house.sending is not None:
            sender = house.sending.sender
            seen["destinations"] = [name for name in sender.states() if name in simulation.machines and name != EVIL]
            seen["queued events"] = sender.queued_pdus
            seen["queued bytes"] = sender.queued_bytes
            seen["sending"] = sender.sending
        for room in list(house.rooms._by_nid.values()):
            if room.queued or room.unwritten:
                seen[f"unwritten in {simulation.called(room.room_id)}"] = room.queued or len(room.unwritten)
            if room.standing is not room.visible:
                seen[f"standing of {simulation.called(room.room_id)}"] = "not what is visible"
        faults += [f"{machine.name} does not come to rest: {what}: {value}" for what, value in seen.items() if value]
    return faults


# -- rooms -----------------------------------------------------------------------------------------------------------


def of_rooms(simulation: Simulation) -> list[str]:
    """Every honest server has the same room, and the room is what its events make it."""
    faults: list[str] = []
    for room_id, label in simulation.rooms.items():
        copies = copies_of(simulation, room_id)
        if not copies:
            continue
        version = ROOM_VERSIONS[simulation.versions[room_id]]
        together = _together(copies)
        faults += [f"{label}: {fault}" for fault in _same_state(simulation, room_id, together)]
        faults += [f"{label}: {fault}" for fault in _same_events(simulation, version, together)]
        faults += [f"{label}: {fault}" for fault in _as_the_reference(simulation, room_id, copies)]
        faults += [f"{label}: {fault}" for fault in _nothing_follows_soft_failures(simulation, copies)]
        faults += [f"{label}: {fault}" for fault in _nothing_lost(simulation, room_id, copies)]
    return faults


def _together(copies: list[Copy]) -> list[Copy]:
    """Copies of servers whose people are there for the others too.

    Where all who let a server's people in, and whatever these said since, came too late for everybody else (soft
    failure), that server goes on in a room of its own, as the specification has it: the others tell it by what it was
    overruled, but nothing of that need undo what came before it in the order of resolution. Whether it is right about
    its own events is judged all the same.
    """
    return [
        copy
        for copy in copies
        if len(copies) == 1
        or any(_is_there(copy, other) for other in copies if other is not copy)
        or not any(_came_too_late(copy, other) for other in copies if other is not copy)
    ]


def _is_there(copy: Copy, other: Copy) -> bool:
    """Whether a server's people are in the room as another server has it."""
    return any(_is_join_of(other, event_id, copy.machine.name) for event_id in other.state.values())


def _came_too_late(copy: Copy, other: Copy) -> bool:
    """Whether another server has heard of the joins that a server's people are there by, and soft-failed them all."""
    joins = [one for one in copy.state.values() if _is_join_of(copy, one, copy.machine.name)]
    return bool(joins) and all(one in other.events and other.events[one][3] for one in joins)


def _is_join_of(copy: Copy, event_id: str, server: str) -> bool:
    event = copy.events[event_id][0]
    is_member = event.type == "m.room.member" and event.content.get("membership") == "join"
    return is_member and _server(event.state_key or "") == server


def _same_state(simulation: Simulation, room_id: str, copies: list[Copy]) -> list[str]:
    """Everybody has the same state, but for what a hostile server's last words make of it (`Copy.common`)."""
    states = [copy.state for copy in copies]
    if any(copy.common_ends != set(copy.extremities) for copy in copies):
        reference, _ = _whole_reference(simulation, room_id)
        ends = [sorted(copy.common_ends) for copy in copies]
        if all(reference.after.keys() >= set(some) for some in ends):  # if not, that is told below
            states = [dict(reference.state_of(some)) for some in ends]
    differences = (
        _difference(copies[0], states[0], copy, state) for copy, state in zip(copies[1:], states[1:], strict=True)
    )
    return [f"the state differs: {difference}" for difference in differences if difference]


def _difference(one: Copy, state: StateIds, other: Copy, others: StateIds) -> str:
    keys = sorted({key for key in {*state, *others} if state.get(key) != others.get(key)})
    told = (
        f"{key}: {one.machine.name} {_short(state.get(key))}, {other.machine.name} {_short(others.get(key))}"
        for key in keys
    )
    return "; ".join(told)


def _short(event_id: str | None) -> str:
    return "nothing" if event_id is None else event_id[:8]


def _same_events(simulation: Simulation, version: RoomVersion, copies: list[Copy]) -> list[str]:
    """Everybody has what anybody's event follows, and has it in the graph if it was taken without reserve."""
    faults = []
    every = set().union(*(copy.common for copy in copies))
    for copy in copies:
        if missing := every - copy.accepted:
            told = []
            for event_id in sorted(missing):
                event = next(other.events[event_id][0] for other in copies if event_id in other.accepted)
                how = "rejected" if event_id in copy.rejected else "no place" if event_id in copy.events else "unknown"
                told.append(f"{_told(event)} {how}")
            faults.append(f"{copy.machine.name} has not accepted {', '.join(told)}")
        reference = _reference_of(version, copy)
        entered = simulation.network.entries
        # A flood of forks by one server does not make that many ends of the room: what is left out is its own loss.
        lost = [one for one in sorted(copy.welcome - copy.graph) if _server(copy.events[one][0].sender) != EVIL]
        stray = [one for one in lost if _was_there(reference, copy.machine.name, one, entered)]
        if stray:
            told = [_told(copy.events[event_id][0]) for event_id in stray]
            faults.append(f"{copy.machine.name} has accepted {', '.join(told)}, and forgotten it")
    return faults


def _reference_of(version: RoomVersion, copy: Copy) -> Reference:
    """One server's events, judged."""
    reference = Reference(version, {event_id: one[0] for event_id, one in copy.events.items()})
    reference.judge_all()
    return reference


def _whole_reference(simulation: Simulation, room_id: str) -> tuple[Reference, dict[str, Event]]:
    """The events that anybody has, judged."""
    events = _all_events(simulation, room_id)
    reference = Reference(ROOM_VERSIONS[simulation.versions[room_id]], events)
    reference.judge_all()
    return reference, events


def _all_events(simulation: Simulation, room_id: str) -> dict[str, Event]:
    """By id, also those that only a hostile server has, which may have let somebody in."""
    events: dict[str, Event] = {}
    for machine in simulation.machines.values():
        for event_id, (event, *_) in events_of(simulation, machine, room_id).items():
            events.setdefault(event_id, event)
    return events


def _as_the_reference(simulation: Simulation, room_id: str, copies: list[Copy]) -> list[str]:
    reference, events = _whole_reference(simulation, room_id)
    faults = []
    for copy in copies:
        if not all(event_id in reference.after for event_id in copy.extremities):
            faults.append(f"{copy.machine.name}'s newest events hang in the air")
            continue
        expected = reference.state_of(copy.extremities)
        if dict(expected) != copy.state:
            keys = sorted(key for key in {*expected, *copy.state} if expected.get(key) != copy.state.get(key))
            told = "; ".join(f"{key}: {_short(copy.state.get(key))}, not {_short(expected.get(key))}" for key in keys)
            faults.append(f"the state of {copy.machine.name} is not what follows from the events: {told}")
        for event_id in sorted(copy.accepted & reference.refused.keys()):
            faults.append(f"{copy.machine.name} has accepted {_told(events[event_id])}: {reference.refused[event_id]}")
        for event_id in sorted(copy.rejected - reference.refused.keys() - reference.unjudged):
            faults.append(f"{copy.machine.name} has rejected {_told(events[event_id])}, which is allowed")
    return faults


def _nothing_follows_soft_failures(simulation: Simulation, copies: list[Copy]) -> list[str]:
    """A server's own people say nothing after what it thinks has come too late; but what a join follows that another
    server took in, that server chose.
    """
    faults = []
    for copy in copies:
        soft = {event_id for event_id, (_, _, _, is_soft) in copy.events.items() if is_soft}
        for _, (event, *_) in sorted(copy.events.items()):
            followed = soft.intersection(event.prev_events)
            is_own = _server(event.sender) == copy.machine.name and event.event_id not in simulation.network.entries
            if followed and is_own:
                told = ", ".join(map(_short, sorted(followed)))
                faults.append(f"{copy.machine.name} lets {_told(event)} follow {told}, which it soft-failed")
        for event_id in sorted(soft.intersection(copy.extremities)):
            faults.append(f"{copy.machine.name} has {_short(event_id)} for its newest, which it soft-failed")
    return faults


def _nothing_lost(simulation: Simulation, room_id: str, copies: list[Copy]) -> list[str]:
    """What a client was told is sent is there, once."""
    faults = []
    for person in simulation.people:
        if person.machine not in simulation.honest:
            continue
        copy = next((copy for copy in copies if copy.machine is person.machine), None)
        if copy is None:
            continue
        texts: dict[str, list[str]] = {}
        for event_id in copy.accepted:
            event = copy.events[event_id][0]
            if event.sender == person.user_id and event.type == "m.room.message":
                texts.setdefault(str(event.content.get("body")), []).append(event_id)
        for text, event_ids in texts.items():
            if text != "None" and len(event_ids) > 1:
                faults.append(f"{person.label} said {text!r} once and it is there {len(event_ids)} times")
    return faults


# -- clients ---------------------------------------------------------------------------------------------------------


async def of_clients(simulation: Simulation) -> list[str]:
    """What clients were shown, piece by piece, is what is there."""
    faults: list[str] = []
    for person in simulation.people:
        if person.machine not in simulation.honest:
            continue
        try:
            await _check_person(simulation, person, faults)
        except Broken as broken:
            faults.append(str(broken))
    return faults


async def _check_person(simulation: Simulation, person: Person, faults: list[str]) -> None:
    member = person.machine.here
    for room_id, label in simulation.rooms.items():
        room = await member.house.rooms.get(room_id)
        is_in = room is not None and room.membership_of(person.user_id) == "join"
        if is_in != (room_id in person.rooms):
            faults.append(f"{person.label}'s client thinks it is {'not ' if is_in else ''}in {label}")
            continue
        if not is_in:
            continue
        seen = person.rooms[room_id]
        read = await person.read_all(room_id)
        page = [event["event_id"] for event in reversed(read)]
        # What was fetched later has its place before what follows it, and nobody was shown it as news.
        positions = await member.house.database.run(_positions, room_id)
        past = _fetched_later(person.machine, positions)
        # And what came late lies before a first look that ends as the graph does.
        past |= _held_back_from(seen, positions)
        # And a redaction that came before what it redacts was no news then, and is none later.
        past |= person.machine.held_back
        past -= set(seen.timeline)
        page = [event_id for event_id in page if event_id not in past]
        if len(set(page)) < len(page):
            faults.append(f"{person.label} is shown an event twice by /messages in {label}")
        shown = page[len(page) - len(seen.timeline) :]
        if not _is_same(seen, shown):
            faults.append(
                f"{person.label}'s timeline of {label} is not what /messages shows: {_compare(seen.timeline, page)}"
            )
        assert room is not None
        state = {key: ref.event_id for key, ref in room.visible.state.items()}
        wrong = [key for key, event_id in sorted(state.items()) if not _knows(person, seen, key, event_id)]
        if wrong:
            told = "; ".join(f"{key}: {_short(_shown(seen, key))}, not {_short(state[key])}" for key in wrong)
            how = "state_after" if person.use_state_after else "state"
            faults.append(f"{person.label}'s client was told another state ({how}) of {label}: {told}")


def _held_back_from(seen: Seen, positions: Mapping[str, int]) -> set[str]:
    """What the token of a client's first look at a room says was left out of it, though it came later."""
    held = set(parse_room_token(seen.first_prev_batch, "prev_batch").held) if seen.first_prev_batch else set()
    return {event_id for event_id, position in positions.items() if position in held}


def _is_same(seen: Seen, shown: list[str]) -> bool:
    """Whether a timeline is what `/messages` shows, which goes by arrival also where a first look did not."""
    first = seen.first_look
    return sorted(shown[:first]) == sorted(seen.timeline[:first]) and shown[first:] == seen.timeline[first:]


def _knows(person: Person, seen: Seen, key: tuple[str, str], event_id: str) -> bool:
    """Whether a client has a piece of state.

    What resolution takes away without putting something in its place, `/sync` can't tell. And by `state` with a
    timeline behind it, it can't tell either that an event of the timeline did not become state: then it must do that
    the client has heard of the one that did. (That is what `state_after` is for.)
    """
    return _shown(seen, key) == event_id or (not person.use_state_after and event_id in seen.told)


def _shown(seen: Seen, key: tuple[str, str]) -> str | None:
    event = seen.state.get(key)
    return None if event is None else str(event["event_id"])


def _compare(timeline: list[str], page: list[str]) -> str:
    start = page.index(timeline[0]) if timeline and timeline[0] in page else 0
    there = page[start:]
    lost = [_short(one) for one in there if one not in timeline]
    more = [_short(one) for one in timeline if one not in page]
    return f"lost {lost}, only there {more}, {'in another order' if not lost and not more else ''}"

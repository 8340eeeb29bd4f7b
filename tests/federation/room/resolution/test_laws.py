"""What holds of state resolution whatever happens in a room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from federation.room.event import Event
from federation.room.resolution import Conflict, Precedents, StateMap, find_conflict, resolve, resolve_conflict
from federation.room.resolution.auth_chain import walk_auth_difference, walk_conflicted_subgraph
from federation.room.resolution.evidence import Evidence
from federation.room.resolution.ordering import Mainline, order_by_mainline, order_by_power
from federation.room.versions import ROOM_VERSIONS, RoomVersion, StateResolution
from tests.federation.room.history import Author, Server
from tests.federation.room.resolution import reference
from tests.federation.room.resolution.test_histories import in_another_order, with_index, with_nothing_at_hand

VERSIONS = [ROOM_VERSIONS[name] for name in ("1", "2", "6", "9", "10", "11", "12")]
WITH_GRAPHS = [version for version in VERSIONS if version.state_resolution is not StateResolution.V1]
PEOPLE = ["@alice:a", "@bob:b", "@carol:c", "@dave:d"]
people = st.sampled_from(PEOPLE)
levels = st.sampled_from([0, 49, 50, 99, 100])
places = st.integers(0, 3)
"""How many events back something is: near, so that histories fork and merge a lot."""

acts = st.one_of(
    st.tuples(st.just("m.room.topic"), people, st.sampled_from(["", "x"])),
    st.tuples(st.just("m.room.message"), people, st.none()),
    st.tuples(st.just("m.room.join_rules"), people, st.sampled_from(["public", "invite", "knock"])),
    st.tuples(st.just("m.room.power_levels"), people, st.dictionaries(people, levels)),
    st.tuples(st.just("m.room.member"), people, st.tuples(people, st.sampled_from(["join", "leave", "ban", "invite"]))),
)


class Room:
    """A room with a history that Hypothesis made up, as a server knows it that has seen all of it."""

    def __init__(self, version: RoomVersion, deeds: Sequence[tuple[tuple[str, str, object], set[int], int]]) -> None:
        author = Author(version)
        author.begin("public", {"users": {"@bob:b": 100, "@carol:c": 50}}, ["@bob:b", "@carol:c"])
        for number, ((type, sender, what), back, at_ms) in enumerate(deeds):
            state_key: str | None = ""
            content: Mapping[str, object] = {}
            match type, what:
                case "m.room.message", _:
                    state_key = None
                case "m.room.topic", str():
                    state_key = what
                case "m.room.join_rules", _:
                    content = {"join_rule": what}
                case "m.room.power_levels", dict():
                    creators = {"@alice:a"} if version.privileged_creators else set()
                    content = {"users": {user: level for user, level in what.items() if user not in creators}}
                case "m.room.member", (str() as state_key, membership):
                    content = {"membership": membership}
            written = author.written
            after = [written[-1 - place].event_id[1:] for place in sorted(back)]
            author.write(f"E{number}", type, sender, content, state_key=state_key, after=after, at_ms=at_ms)
        self.version = version
        self.written = author.written
        self.server = author.server
        self.events: Mapping[str, Event] = author.server.events

    def states(self) -> list[StateMap]:
        """The state after each of the last events."""
        return [self.server.state_after[event.event_id] for event in self.written[-6:]]

    def evidence(self) -> Evidence:
        return Evidence(self.version, self.events, self.server.refused)


def rooms(versions: Sequence[RoomVersion]) -> st.SearchStrategy[Room]:
    deed = st.tuples(acts, st.sets(places, min_size=1, max_size=2), st.integers(0, 5))
    return st.builds(Room, st.sampled_from(versions), st.lists(deed, min_size=4, max_size=25))


slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@slow
@given(rooms(VERSIONS), st.data())
def test_the_order_and_number_of_the_forks_do_not_matter(room: Room, data: st.DataObject) -> None:
    forks = room.states()
    outcome = resolve(room.version, forks, room.events)
    others = data.draw(st.permutations(forks + data.draw(st.lists(st.sampled_from(forks), max_size=3))))
    assert resolve(room.version, others, room.events) == outcome


@slow
@given(rooms(VERSIONS), st.integers(1, 4))
def test_forks_that_agree_are_the_outcome(room: Room, times: int) -> None:
    for state in room.states():
        assert resolve(room.version, [state] * times, {}) == state


@slow
@given(rooms(VERSIONS))
def test_the_outcome_comes_from_the_forks(room: Room) -> None:
    forks = room.states()
    outcome = resolve(room.version, forks, room.events)
    # What only the auth difference brings up is the other source; it is hardly ever more than the forks hold.
    difference = reference.auth_difference(forks, room.events) if room.version in WITH_GRAPHS else set()
    brought_up = {(event.type, event.state_key) for event in map(room.events.__getitem__, difference)}
    assert outcome.keys() <= set().union(*forks) | brought_up
    for key, event_id in find_conflict(room.version, forks).unconflicted.items():
        assert outcome[key] == event_id


@slow
@given(rooms(VERSIONS))
def test_what_is_at_hand_does_not_matter(room: Room) -> None:
    forks, refused = room.states(), room.server.refused
    outcome = resolve(room.version, forks, room.events, refused)
    assert with_index(room.version, forks, room.events, refused) == outcome
    assert with_nothing_at_hand(room.version, forks, room.events, refused) == outcome


@slow
@given(rooms(VERSIONS), st.integers(0, 1000))
def test_servers_agree_whatever_order_events_come_in(room: Room, seed: int) -> None:
    other = Server(room.version)
    for event in in_another_order(room.written, seed):
        other.receive(event)
    assert other.refused == room.server.refused
    assert other.state_after == room.server.state_after
    assert other.current_state() == room.server.current_state()


@slow
@given(rooms(VERSIONS), st.data())
def test_precedents_change_nothing(room: Room, data: st.DataObject) -> None:
    forks, refused, precedents = room.states(), room.server.refused, Precedents()
    for _ in range(4):
        some = data.draw(st.lists(st.sampled_from(forks), min_size=1, max_size=3))
        conflict = find_conflict(room.version, some)
        outcome = resolve_conflict(room.version, conflict, room.events, refused)
        assert resolve_conflict(room.version, conflict, room.events, refused, precedents=precedents) == outcome


@slow
@given(rooms(VERSIONS))
def test_a_conflict_can_be_told_without_copying_what_is_agreed(room: Room) -> None:
    forks = room.states()
    conflict = find_conflict(room.version, forks)
    outcome = resolve_conflict(room.version, conflict, room.events)
    for whole in forks:
        if room.version.state_resolution is StateResolution.V1:  # each knows of what only some have
            whole = {key: event_id for fork in (*forks, whole) for key, event_id in fork.items()}
        told = Conflict(whole, conflict.forks)
        assert resolve_conflict(room.version, told, room.events) == outcome
    assert {**conflict.unconflicted, **outcome} == resolve(room.version, forks, room.events)


class Unwalkable(dict[tuple[str, str], str]):
    """A state that may be asked, but not walked."""

    def __iter__(self) -> None:  # type: ignore[override]
        raise AssertionError("somebody walked the whole state")

    keys = values = items = __iter__  # type: ignore[assignment]


@slow
@given(rooms(VERSIONS))
def test_with_an_index_the_agreed_state_is_never_walked(room: Room) -> None:
    forks = room.states()
    conflict = find_conflict(room.version, forks)
    told = Conflict(Unwalkable(conflict.unconflicted), conflict.forks)
    difference = reference.auth_difference(forks, room.events)
    subgraph = reference.conflicted_subgraph(conflict, room.events)
    outcome = resolve_conflict(room.version, told, room.events, (), difference, subgraph)
    assert outcome == resolve_conflict(room.version, conflict, room.events)


@slow
@given(rooms(WITH_GRAPHS))
def test_walks_find_what_the_definitions_say(room: Room) -> None:
    forks = room.states()
    conflict = find_conflict(room.version, forks)
    assume(conflict.keys)
    difference = reference.auth_difference(forks, room.events)
    assert walk_auth_difference(conflict, room.evidence()) | conflict.event_ids == difference | conflict.event_ids
    assert walk_conflicted_subgraph(conflict, room.evidence()) == reference.conflicted_subgraph(conflict, room.events)


@slow
@given(rooms(WITH_GRAPHS), st.data())
def test_the_mainline_is_where_the_definition_puts_it(room: Room, data: st.DataObject) -> None:
    """Also when depths are lies, as they only guide the search."""
    events = data.draw(st.permutations(room.written))
    if data.draw(st.booleans()):
        for event in events:
            event.depth = data.draw(st.integers(0, 5))
    power = [event for event in events if (event.type, event.state_key) == ("m.room.power_levels", "")]
    power_levels = data.draw(st.none() | st.sampled_from(power))
    mainline = Mainline(power_levels, room.evidence())
    for event in events:
        expected = reference.mainline_position(event, power_levels, room.events)
        assert mainline.position(event) == expected


@slow
@given(rooms(WITH_GRAPHS), st.data())
def test_the_orders_are_orders(room: Room, data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(room.written), unique_by=lambda event: event.event_id))
    names = {event.event_id for event in some}
    ordered = order_by_power(names, room.evidence())
    assert {event.event_id for event in ordered} == names
    assert order_by_power(sorted(names, reverse=True), room.evidence()) == ordered
    before: set[str] = set()
    for event in ordered:
        assert set(event.auth_events) & names <= before
        before.add(event.event_id)
    power = next(event for event in room.written if event.type == "m.room.power_levels")
    by_mainline = order_by_mainline(some, power, room.evidence())
    assert by_mainline == order_by_mainline(some[::-1], power, room.evidence())

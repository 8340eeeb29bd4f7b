"""States told apart by how they came about: the same as by looking at them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from federation.room.event import StateKey
from homeserver.rooms.lineage import MOST_CHANGES, MOST_STEPS, Lineage
from homeserver.rooms.live import State
from homeserver.rooms.receive.states import changes_of
from storage.ports import StateChange, StateRef

keys = st.sampled_from([("m.room.member", name) for name in "abcde"] + [("m.room.topic", "")])
steps = st.lists(
    st.tuples(st.integers(0, 5), st.dictionaries(keys, st.booleans(), max_size=3)), min_size=1, max_size=30
)


def grow(lineage: Lineage, told: list[tuple[int, dict[StateKey, bool]]]) -> list[State]:
    """States by snapshot: each made of one that is so many before it, with some keys set or taken away."""
    states: list[State] = [Map()]
    for back, changed in told:
        parent = max(0, len(states) - 1 - back)
        snapshot = len(states)
        state = states[parent]
        changes: list[StateChange] = []
        for key, is_set in sorted(changed.items()):
            new = StateRef(snapshot * 10 + len(changes), "$event") if is_set else None
            changes.append(StateChange(key, new, state.get(key)))
            state = state.set(key, new) if new is not None else state.delete(key) if key in state else state
        lineage.note(snapshot, parent, changes)
        states.append(state)
    return states


@given(steps, st.data())
def test_what_is_climbed_is_what_is_seen(told: list[tuple[int, dict[StateKey, bool]]], data: st.DataObject) -> None:
    lineage = Lineage()
    states = grow(lineage, told)
    one, other = (data.draw(st.integers(0, len(states) - 1)) for _ in range(2))
    derived = lineage.derive(states[one], one, other)
    assert derived == states[other]
    differing = lineage.differing(one, other)
    assert differing is not None
    by_sight = changes_of(states[one], states[other])
    assert {change.key for change in by_sight} <= differing
    assert changes_of(states[one], states[other], differing) == by_sight


def test_what_is_too_far_or_too_much_is_not_known() -> None:
    lineage = Lineage()
    topic = ("m.room.topic", "")
    for snapshot in range(1, MOST_STEPS + 2):
        lineage.note(snapshot, snapshot - 1, [StateChange(topic, StateRef(snapshot, "$event"), None)])
    assert lineage.differing(0, MOST_STEPS) == {topic}
    assert lineage.differing(0, MOST_STEPS + 1) is None
    assert lineage.derive(Map(), MOST_STEPS + 1, 0) is None
    assert lineage.differing(5, 100_000) is None
    many = [StateChange(("m.room.member", str(n)), StateRef(n, "$event"), None) for n in range(MOST_CHANGES + 1)]
    assert not lineage.note(1_000_000, 5, many)
    assert lineage.differing(5, 1_000_000) is None
    assert lineage.differing(7, 7) == set()

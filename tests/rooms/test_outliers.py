"""The order in which events are judged by what they cite."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from federation.room.event import Event
from homeserver.rooms.receive.outliers import cited_first


def event(event_id: str, *cited: str) -> Event:
    return Event(event_id, "!r:x", "m.room.topic", "", "@a:x", 0, 1, (), cited, None, b"")


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=30), st.randoms())
def test_what_is_cited_comes_first(graph: list[list[int]], random: Random) -> None:
    """Whatever order they came in; what is cited may also be none of them."""
    made = [event(f"${n}", *(f"${c}" for c in cited if c < n or c > len(graph))) for n, cited in enumerate(graph)]
    events = {one.event_id: one for one in made}
    ordered = cited_first(events)
    assert {one.event_id for one in ordered} == events.keys() and len(ordered) == len(events)
    places = {one.event_id: place for place, one in enumerate(ordered)}
    assert all(places.get(cited, -1) < places[one.event_id] for one in ordered for cited in one.auth_events)
    random.shuffle(made)
    assert cited_first({one.event_id: one for one in made}) == ordered


def test_a_cycle_is_left_out_with_what_rests_on_it() -> None:
    made = [event("$a", "$c"), event("$b", "$a"), event("$c", "$b"), event("$d", "$c"), event("$e"), event("$f", "$f")]
    assert [one.event_id for one in cited_first({one.event_id: one for one in made})] == ["$e"]

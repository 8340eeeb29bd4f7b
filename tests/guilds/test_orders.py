"""There is a place between any two, until names grow too long; and spreading keeps the order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from homeserver.guilds.orders import MOST_CHARACTERS, between, spread


@given(st.lists(st.integers(0, 10**6), max_size=60))
def test_places_are_found_between_any_two(where: list[int]) -> None:
    places: list[str] = []
    for number in where:
        index = number % (len(places) + 1)
        before = places[index - 1] if index else ""
        after = places[index] if index < len(places) else ""
        place = between(before, after)
        if place is None:
            places = list(spread(len(places)))
            continue
        places.insert(index, place)
        assert places == sorted(set(places))
        assert all(len(text) <= MOST_CHARACTERS for text in places)


def test_always_in_front_ends_in_none_and_not_in_a_wrong_order() -> None:
    first: str | None = between("", "")
    count = 0
    while first is not None:
        following = between("", first)
        assert following is None or following < first
        first, count = following, count + 1
    assert count > 100


@given(st.integers(0, 20_000))
def test_spread(count: int) -> None:
    places = spread(count)
    assert len(places) == count and list(places) == sorted(set(places))
    for before, after in list(pairwise(places))[:3]:
        assert before < str(between(before, after)) < after

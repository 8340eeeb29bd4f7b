"""What follows from two halves, whatever the two did and however late each side's server heard of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.friends.halves import STATES, Half, State, read_state, relation_of, settled
from homeserver.friends.notices import kind_of
from storage.friends import FRIENDS, INCOMING, NONE, OUTGOING

halves = st.none() | st.builds(Half, st.sampled_from(STATES), st.integers(0, 5))


@pytest.mark.parametrize(
    ("mine", "theirs", "relation"),
    [
        (None, None, NONE),
        (Half("requested", 1), None, OUTGOING),
        (None, Half("requested", 1), INCOMING),
        (Half("requested", 1), Half("requested", 2), FRIENDS),
        (Half("requested", 1), Half("accepted", 2), FRIENDS),
        (Half("accepted", 2), Half("accepted", 3), FRIENDS),
        (Half("removed", 4), Half("accepted", 3), NONE),
        (Half("removed", 4), Half("requested", 3), NONE),
        (Half("removed", 4), Half("requested", 5), INCOMING),
        (Half("requested", 5), Half("removed", 4), OUTGOING),
        (Half("requested", 3), Half("removed", 4), NONE),
        (Half("accepted", 3), None, NONE),
    ],
)
def test_what_the_other_is(mine: Half | None, theirs: Half | None, relation: int) -> None:
    assert relation_of(mine, theirs) == relation


@given(halves, halves)
def test_friends_are_friends_of_each_other(mine: Half | None, theirs: Half | None) -> None:
    assert (relation_of(mine, theirs) == FRIENDS) == (relation_of(theirs, mine) == FRIENDS)
    if relation_of(mine, theirs) == OUTGOING:
        assert relation_of(theirs, mine) in (INCOMING, NONE)


@given(halves, halves, st.sampled_from([None, "join", "invite", "leave", "ban"]))
def test_following_comes_to_an_end(mine: Half | None, theirs: Half | None, membership: str | None) -> None:
    """And never says yes for somebody who did not."""
    state = settled(mine, theirs, membership)
    if state is not None:
        assert mine is not None and mine.is_willing
        assert settled(Half(state, 9), theirs, membership) is None or membership in ("leave", "ban")


steps = st.lists(st.tuples(st.booleans(), st.sampled_from(["ask", "end", "hear"])), max_size=25)


@given(steps)
def test_both_sides_agree_in_the_end(story: list[tuple[bool, str]]) -> None:
    """Each side acts, and hears what the other said, in order, only now and then; at last both hear everything."""
    own: list[State | None] = [None, None]
    views: list[list[Half | None]] = [[None, None], [None, None]]
    letters: list[list[State]] = [[], []]
    clocks = [0, 0]

    def say(side: int, state: State) -> None:
        own[side] = state
        clocks[side] += 1
        views[side][side] = Half(state, clocks[side])
        letters[side].append(state)

    def hear(side: int) -> None:
        other = 1 - side
        if letters[other]:
            clocks[side] += 1
            views[side][other] = Half(letters[other].pop(0), clocks[side])
        follow(side)

    def follow(side: int) -> None:
        while (state := settled(views[side][side], views[side][1 - side], "join")) is not None:
            say(side, state)

    for first, what in story:
        side = int(first)
        mine = views[side][side]
        if what == "ask" and not (mine is not None and mine.is_willing):
            say(side, "requested")
            follow(side)
        elif what == "end" and mine is not None and mine.is_willing:
            say(side, "removed")
        elif what == "hear":
            hear(side)
    for _ in range(200):
        if not letters[0] and not letters[1]:
            break
        hear(0)
        hear(1)
    assert not letters[0] and not letters[1], "they never come to rest"
    one = relation_of(views[0][0], views[0][1])
    other = relation_of(views[1][1], views[1][0])
    assert (one == FRIENDS) == (other == FRIENDS)
    assert [view[0] and view[0].state for view in views] == [own[0]] * 2


def test_how_changes_are_called() -> None:
    assert kind_of(NONE, INCOMING, by_self=False) == "friend_request.received"
    assert kind_of(INCOMING, FRIENDS, by_self=True) == kind_of(OUTGOING, FRIENDS, by_self=False)
    assert kind_of(INCOMING, NONE, by_self=True) == kind_of(OUTGOING, NONE, by_self=False) == "friend_request.declined"
    assert kind_of(INCOMING, NONE, by_self=False) == kind_of(FRIENDS, NONE, by_self=True) == "friend_request.removed"
    assert kind_of(NONE, OUTGOING, by_self=True) is None


def test_what_makes_no_sense_says_nothing() -> None:
    for content in ({}, {"state": 5}, {"state": "friends"}, {"state": ["accepted"]}):
        assert read_state(content) is None

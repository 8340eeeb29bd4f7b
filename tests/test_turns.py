"""Work about the same thing never overlaps, begins in its order, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from homeserver.turns import OneAtATime


def test_who_ends_while_another_lets_go_leaves_the_turn_to_who_has_it() -> None:
    turns, busy, over = OneAtATime(), Deferred[None](), Deferred[None]()
    begun: list[str] = []

    async def first() -> None:
        begun.append("first")
        await busy

    async def quick() -> None:
        begun.append("quick")

    async def long(name: str) -> None:
        begun.append(name)
        await over

    async def quick_then_long() -> None:
        await turns.alone("room", quick)
        await turns.alone("room", partial(long, "second"))

    Deferred.fromCoroutine(turns.alone("room", first))
    Deferred.fromCoroutine(quick_then_long())
    busy.callback(None)  # lets `quick` begin and end, and `second` begin, before the first one's turn is over
    Deferred.fromCoroutine(turns.alone("room", partial(long, "third")))
    assert begun == ["first", "quick", "second"]
    over.callback(None)
    assert begun == ["first", "quick", "second", "third"]
    assert turns._turns == {}


plans = st.lists(
    st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from(["quick", "waits", "raises"]), min_size=1, max_size=4)),
    max_size=8,
)


@given(plans, st.data())
def test_whatever_comes_when(plan: list[tuple[str, list[str]]], data: st.DataObject) -> None:
    turns = OneAtATime()
    at_work: dict[str, int] = {"a": 0, "b": 0}
    waiting: list[Deferred[None]] = []

    async def work(about: str, how: str) -> None:
        assert at_work[about] == 0
        at_work[about] += 1
        try:
            if how == "waits":
                moment: Deferred[None] = Deferred()
                waiting.append(moment)
                await moment
            if how == "raises":
                raise KeyError(how)
        finally:
            at_work[about] -= 1

    async def several(about: str, hows: list[str]) -> None:
        for how in hows:
            make: Callable[[], Awaitable[None]] = partial(work, about, how)
            try:
                await turns.alone(about, make)
            except KeyError:
                assert how == "raises"

    outcomes: list[object] = []
    for about, hows in plan:
        Deferred.fromCoroutine(several(about, hows)).addBoth(outcomes.append)
        lets_go = data.draw(st.booleans())
        if waiting and lets_go:
            waiting.pop(0).callback(None)
    while waiting:
        which = data.draw(st.integers(0, len(waiting) - 1))
        waiting.pop(which).callback(None)
    assert outcomes == [None] * len(plan)
    assert turns._turns == {}


def test_who_stops_waiting_is_out_of_the_line() -> None:
    turns, busy = OneAtATime(), Deferred[None]()
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        await busy

    Deferred.fromCoroutine(turns.alone(1, partial(work, "first")))
    second = Deferred.fromCoroutine(turns.alone(1, partial(work, "second")))
    Deferred.fromCoroutine(turns.alone(1, partial(work, "third")))
    Deferred.fromCoroutine(turns.settled(1)).addCallback(lambda _: begun.append("settled"))
    second.cancel()
    second.addErrback(lambda failure: failure.trap(CancelledError))
    busy.callback(None)
    assert begun == ["first", "third", "settled"]
    assert turns._turns == {}

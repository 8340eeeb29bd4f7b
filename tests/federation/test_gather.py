"""Several things at once."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from federation.gather import gather


async def wait_for(something: Deferred[int]) -> int:
    return await something


def test_outcomes_come_in_the_order_of_the_work() -> None:
    one, two = Deferred[int](), Deferred[int]()
    outcomes: list[object] = []
    Deferred.fromCoroutine(gather([wait_for(one), wait_for(two)])).addBoth(outcomes.append)
    two.callback(2)
    one.callback(1)
    assert outcomes == [[1, 2]]


def test_who_is_cancelled_hears_of_that() -> None:
    """A handler whose client hangs up must not look like one that fails."""
    waiting = Deferred[int]()
    work = Deferred.fromCoroutine(gather([wait_for(waiting)]))
    outcomes: list[object] = []
    work.addErrback(lambda failure: outcomes.append(failure.type))
    work.cancel()
    assert outcomes == [CancelledError]

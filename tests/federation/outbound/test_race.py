"""Attempts one after the other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from federation.outbound.race import Race


class Lost(Exception):
    pass


@define
class Track:
    """Attempts that end when the test says so."""

    clock: Clock = field(factory=Clock)
    begun: list[str] = field(factory=list)
    cancelled: list[str] = field(factory=list)
    ends: dict[str, Deferred[str]] = field(factory=dict)

    def attempt(self, name: str) -> Callable[[], Coroutine[Deferred[Any], Any, str]]:
        async def run() -> str:
            self.begun.append(name)
            if name in ("bad", "worse"):
                raise Lost(name)
            if name == "quick":
                return name
            self.ends[name] = Deferred()
            try:
                return await self.ends[name]
            except CancelledError:
                self.cancelled.append(name)
                raise

        return run

    def race(self, *names: str) -> list[Any]:
        outcome: list[Any] = []
        Race([self.attempt(name) for name in names], 0.3, self.clock).run().addBoth(outcome.append)
        return outcome


def test_the_first_is_enough() -> None:
    track = Track()
    assert track.race("quick", "b") == ["quick"]
    assert track.begun == ["quick"]
    assert track.clock.getDelayedCalls() == []


def test_the_next_begins_after_a_while() -> None:
    track = Track()
    outcome = track.race("a", "b", "c")
    track.clock.advance(0.29)
    assert track.begun == ["a"]
    track.clock.advance(0.02)
    assert track.begun == ["a", "b"]
    track.ends["b"].callback("b")
    assert outcome == ["b"]
    assert track.cancelled == ["a"]
    track.clock.advance(1)
    assert track.begun == ["a", "b"]


def test_the_next_begins_at_once_after_a_failure() -> None:
    track = Track()
    outcome = track.race("bad", "a", "b")
    assert track.begun == ["bad", "a"]
    track.ends["a"].callback("a")
    assert outcome == ["a"]
    assert track.clock.getDelayedCalls() == []


def test_an_earlier_one_may_still_win() -> None:
    track = Track()
    outcome = track.race("a", "b")
    track.clock.advance(0.3)
    track.ends["b"].errback(Lost("b"))
    assert outcome == []
    track.ends["a"].callback("a")
    assert outcome == ["a"]


def test_the_last_failure_is_told() -> None:
    track = Track()
    (outcome,) = track.race("bad", "worse")
    assert isinstance(outcome, Failure)
    assert outcome.check(Lost)
    assert str(outcome.value) == "worse"


def test_giving_up() -> None:
    track = Track()
    failures: list[Any] = []
    race = Race([track.attempt("a"), track.attempt("b"), track.attempt("c")], 0.3, track.clock).run()
    race.addErrback(failures.append)
    track.clock.advance(0.3)
    race.cancel()
    assert track.cancelled == ["a", "b"]
    assert failures[0].check(CancelledError)
    assert track.clock.getDelayedCalls() == []


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("bad", "a")])
def test_nothing_is_left_behind(names: tuple[str, ...]) -> None:
    track = Track()
    outcome = track.race(*names)
    track.clock.advance(5)
    track.ends["a"].callback("a")
    assert outcome == ["a"]
    assert track.clock.getDelayedCalls() == []

"""Virtual time: what is going to happen, in order, and what has happened, line by line.

A world has one clock for all of its servers, which moves on to the next thing that is due and never waits. Everything
that could differ from one run to the next comes from the seed: whoever rolls dice asks for dice of their own, by name,
so that one who rolls more often changes nothing for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

MOST_STEPS = 100_000
"""Things that may happen in a seed; more is a circle."""


@define(eq=False)
class World:
    """See the module's docstring."""

    seed: int
    now: float = 0.0
    """Seconds since the beginning."""
    lines: list[str] = field(factory=list)
    """What happened. Two runs of a seed have the same."""
    story: list[str] | None = None
    """The same with more detail, for whoever wants to read it."""
    steps: int = 0
    _queue: list[tuple[float, int, DelayedCall]] = field(factory=list)
    _count: int = 0

    def dice(self, *name: object) -> Random:
        """Randomness for one purpose. (Random takes the hash of a text, which is the same in every process.)"""
        return Random(":".join(map(str, (self.seed, *name))))

    def note(self, text: str, detail: Callable[[], str] | None = None) -> None:
        """Something happened."""
        line = f"{self.now:10.3f}  {text}"
        self.lines.append(line)
        if self.story is not None:
            self.story.append(line if detail is None else f"{line} {detail()}".rstrip())

    def whisper(self, text: str) -> None:
        """Something that only the story tells."""
        if self.story is not None:
            self.story.append(f"{self.now:10.3f}      {text}")

    @property
    def digest(self) -> str:
        """Stands for everything that happened."""
        return sha256("\n".join(self.lines).encode()).hexdigest()[:16]

    def later(self, delay: float, function: Callable[..., Any], *args: object, **kwargs: object) -> DelayedCall:
        call = DelayedCall(
            self.now + max(0.0, delay), function, args, kwargs, self._cancelled, self._moved, self._seconds
        )
        self._push(call)
        return call

    def sleep(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.later(seconds, done.callback, None)
        return done

    def step(self) -> bool:
        """Let the next thing happen. False if there is none."""
        while self._queue:
            due, _, call = heappop(self._queue)
            if call.cancelled or call.called:
                continue
            if call.getTime() > due:  # put off meanwhile
                self._push(call)
                continue
            self.now = max(self.now, due)
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise AssertionError(f"it goes on for ever: next is {call.func} {call.args[1:2]}")
            call.called = 1
            call.func(*call.args, **call.kw)
            return True
        return False

    def run_until(self, moment: float) -> None:
        while self._queue and self._queue[0][0] <= moment:
            self.step()
        self.now = max(self.now, moment)

    def _push(self, call: DelayedCall) -> None:
        self._count += 1
        heappush(self._queue, (call.getTime(), self._count, call))

    def _seconds(self) -> float:
        return self.now

    def _cancelled(self, call: DelayedCall) -> None:
        """It is dropped when its turn comes."""

    def _moved(self, call: DelayedCall) -> None:
        self._push(call)


@implementer(IReactorTime)
class Timers:
    """The reactor of one run of a server. When the server crashes, what it has planned does not happen."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_dead = False
        self._calls: dict[DelayedCall, None] = {}

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        call = self.world.later(delay, self._fire, callable, args, kwargs)
        call.args = (call, *call.args)
        if not self.is_dead:
            self._calls[call] = None
            if len(self._calls) > 500:
                self._forget()
        return call

    def seconds(self) -> float:
        return self.world.now

    def getDelayedCalls(self) -> list[DelayedCall]:
        self._forget()
        return list(self._calls)

    def die(self) -> None:
        self.is_dead = True
        for call in self.getDelayedCalls():
            call.cancel()
        self._calls.clear()

    def _forget(self) -> None:
        self._calls = {call: None for call in self._calls if call.active()}

    def _fire(self, call: DelayedCall, callable: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._calls.pop(call, None)
        if not self.is_dead:
            callable(*args, **kwargs)


class Hands:
    """The workers of one run of a server: what they do takes a moment, and happens somewhere within it.

    `federation.threads.Workers`. When the server crashes, what they have not begun is never done, and nobody hears
    of what they have.
    """

    def __init__(self, timers: Timers, dice: Random, size: int, slowest_s: Callable[[], float]) -> None:
        self.size = size
        self.under_way = 0
        self._timers = timers
        self._dice = dice
        self._slowest_s = slowest_s
        self._closing: Deferred[None] | None = None

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.under_way += 1
        self._timers.callLater(self._moment(), self._do, answer, function, args, kwargs)
        return answer

    def close(self) -> Deferred[None]:
        if self._closing is None:
            self._closing = Deferred()
            self._check_closed()
        return self._closing

    def _moment(self) -> float:
        return self._slowest_s() * self._dice.random() ** 2

    def _do(self, answer: Deferred[Any], function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        outcome: Any = None
        failed: Exception | None = None
        try:
            outcome = function(*args, **kwargs)
        except Exception as error:
            failed = error
        self._timers.callLater(self._moment() / 4, self._done, answer, outcome, failed)

    def _done(self, answer: Deferred[Any], outcome: Any, failed: Exception | None) -> None:
        self.under_way -= 1
        if not answer.called:  # it may be cancelled
            if failed is None:
                answer.callback(outcome)
            else:
                answer.errback(failed)
        self._check_closed()

    def _check_closed(self) -> None:
        if self._closing is not None and not self.under_way and not self._closing.called:
            self._closing.callback(None)

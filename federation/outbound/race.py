"""Attempts that are begun one after the other until one succeeds: the way to connect where some ways are broken.

    first ──────────────────────> ✗
          wait ── second ────────────────────> ✓   the others are cancelled
                         wait ── third ───────── ✗

Spec: RFC 8305 ("happy eyeballs"), section 5
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")

Attempt = Callable[[], Coroutine[Deferred[Any], Any, T]]


class Race(Generic[T]):
    """`await Race(...).run()` gives what the first attempt to succeed gives, or raises what the last one raised."""

    def __init__(self, attempts: Iterable[Attempt[T]], stagger_s: float, clock: IReactorTime) -> None:
        """At least one attempt. The next begins where nothing is decided after `stagger_s`, or one has failed."""
        self._left = deque(attempts)
        self._stagger_s = stagger_s
        self._clock = clock
        self._running: list[Deferred[T]] = []
        self._timer: IDelayedCall | None = None
        self._outcome: Deferred[T] = Deferred(lambda _: self._stop())

    def run(self) -> Deferred[T]:
        self._begin_next()
        return self._outcome

    def _begin_next(self) -> None:
        self._stop_timer()
        attempt: Deferred[T] = Deferred.fromCoroutine(self._left.popleft()())
        self._running.append(attempt)
        if self._left:
            self._timer = self._clock.callLater(self._stagger_s, self._begin_next)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _won(self, result: T, attempt: Deferred[T]) -> None:
        self._running.remove(attempt)
        self._stop()
        self._outcome.callback(result)

    def _lost(self, failure: Failure, attempt: Deferred[T]) -> None:
        if attempt not in self._running:
            return  # cancelled: it is decided already
        self._running.remove(attempt)
        if self._left:
            self._begin_next()
        elif not self._running:
            self._outcome.errback(failure)

    def _stop(self) -> None:
        self._stop_timer()
        self._left.clear()
        running, self._running = self._running, []
        for attempt in running:
            attempt.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

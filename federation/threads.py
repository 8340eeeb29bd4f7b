"""A few threads for what blocks or computes: work goes in, its outcome comes back to the reactor's thread.

Twisted's own pool is joined at shutdown, which waits for name servers that do not answer; these threads are let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IReactorFromThreads

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["Deferred[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Workers(Protocol):
    """Where functions that touch nothing shared may run."""

    @property
    def size(self) -> int:
        """How many may run at once."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call the function some time soon, after those that were given before. Raises what it raises."""

    def close(self) -> Deferred[None]:
        """Give nothing any more. Fires when everything that was given is done."""


Hire = Callable[[int, str], Workers]
"""Where workers come from: so many, for what their name says. `threads_of(reactor)`, or what a simulation has."""


class Inline:
    """Workers that run everything here and now: for tests."""

    size = 1

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return execute(function, *args, **kwargs)

    def close(self) -> Deferred[None]:
        return succeed(None)


def inline(size: int, name: str) -> Inline:
    """A `Hire` of those."""
    return Inline()


class Threads:
    """Up to `size` threads, started when they are needed. All methods are for the reactor's thread."""

    def __init__(self, reactor: IReactorFromThreads, size: int, name: str) -> None:
        self.size = size
        self._reactor = reactor
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._finished: deque[tuple[Deferred[Any], Any, Exception | None]] = deque()
        self._waking = False
        self._under_way = 0
        self._started = 0
        self._closing: Deferred[None] | None = None

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        answer: Deferred[T] = Deferred()
        self._under_way += 1
        if self._under_way > self._started and self._started < self.size:
            self._started += 1
            Thread(target=self._thread_main, name=f"{self._name}-{self._started}", daemon=True).start()
        self._jobs.put((answer, function, args, kwargs))
        return answer

    def close(self) -> Deferred[None]:
        """Let the threads end after what they have been given. Whoever does not want to wait for that need not."""
        for _ in range(self._started):
            self._jobs.put(None)
        self._started = 0
        if self._closing is None:
            self._closing = Deferred() if self._under_way else succeed(None)
        return self._closing

    def _drain(self) -> None:
        self._waking = False
        while self._finished:
            answer, result, error = self._finished.popleft()
            self._under_way -= 1
            if answer.called:
                continue  # cancelled meanwhile
            if error is None:
                answer.callback(result)
            else:
                answer.errback(error)
        if self._closing is not None and not self._under_way and not self._closing.called:
            self._closing.callback(None)

    def _thread_main(self) -> None:
        while (job := self._jobs.get()) is not None:
            answer, function, args, kwargs = job
            result: Any = None
            failed: Exception | None = None
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                failed = error
            self._finished.append((answer, result, failed))
            del job, answer, function, args, kwargs, result, failed
            if not self._waking:
                self._waking = True
                self._reactor.callFromThread(self._drain)


def threads_of(reactor: IReactorFromThreads) -> Hire:
    """Workers who are threads."""
    return partial(Threads, reactor)

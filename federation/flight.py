"""Work that several want at the same moment is done once, and all of them get the outcome."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Work by key. It runs to its end even if whoever began it gives up, since others may wait for it."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[T]]] = {}

    async def do(self, key: K, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        """The outcome of `work()`, or of what is going on under this key already. Raises what that raises."""
        mine: Deferred[T] = Deferred()
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(mine)
            return await mine
        self._waiting[key] = [mine]
        Deferred.fromCoroutine(work()).addBoth(self._ended, key)
        return await mine

    def is_going_on(self, key: K) -> bool:
        return key in self._waiting

    def _ended(self, outcome: T | Failure, key: K) -> None:
        for waiting in self._waiting.pop(key):
            if waiting.called:
                continue  # cancelled: it waits no longer
            if isinstance(outcome, Failure):
                waiting.errback(outcome)
            else:
                waiting.callback(outcome)

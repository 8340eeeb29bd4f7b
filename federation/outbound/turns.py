"""Whose turn it is: each destination has a few requests under way at once, and each request its time.

A destination that is slow or dead holds up nobody but its own requests: behind the few that are under way, the rest of
them wait, and too many are turned away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import msgspec
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from federation.outbound.transport import Unreachable

AT_ONCE = 8
"""Requests to one destination that are under way at once."""
MOST_WAITING = 200
"""Requests to one destination that wait for those; one more is `Unreachable`."""

T = TypeVar("T")


class _Lane(msgspec.Struct, eq=False):
    """What some requests of one destination share."""

    slots: DeferredSemaphore = msgspec.field(default_factory=lambda: DeferredSemaphore(AT_ONCE))
    requests: int = 0


@define(eq=False)
class Turns:
    """Runs requests in turn."""

    _clock: IReactorTime
    _lanes: dict[Hashable, _Lane] = field(factory=dict, init=False)
    _running: set[Deferred[Any]] = field(factory=set, init=False)
    _closed: bool = field(default=False, init=False)

    async def run(
        self, destination: str, work: Callable[[], Awaitable[T]], timeout_s: float, *, lane: Hashable = None
    ) -> T:
        """The outcome of `work()`, begun when its turn has come; the time limit counts the waiting too.

        Requests of one destination in different lanes do not wait for each other. Raises `Unreachable` where there is
        no turn or no time left, and what the work raises.
        """
        if self._closed:
            raise Unreachable(destination, "this server is going down")
        running = Deferred.fromCoroutine(self._in_turn(destination, work, (destination, lane)))
        self._running.add(running)
        running.addTimeout(timeout_s, self._clock)
        try:
            return await running
        except DeferredTimeout:
            raise Unreachable(destination, f"no answer within {timeout_s:g} s") from None
        except CancelledError:
            if self._closed:
                raise Unreachable(destination, "this server is going down") from None
            raise
        finally:
            self._running.discard(running)

    def close(self) -> None:
        """End everything that is under way: it is `Unreachable`, and so is whatever comes later."""
        self._closed = True
        for running in list(self._running):
            running.cancel()

    async def _in_turn(self, destination: str, work: Callable[[], Awaitable[T]], key: Hashable) -> T:
        lane = self._lanes.setdefault(key, _Lane())
        if lane.requests >= AT_ONCE + MOST_WAITING:
            raise Unreachable(destination, "too many requests wait for it already")
        lane.requests += 1
        try:
            await lane.slots.acquire()
            try:
                return await work()
            finally:
                lane.slots.release()
        finally:
            lane.requests -= 1
            if not lane.requests:
                del self._lanes[key]

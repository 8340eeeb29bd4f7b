"""One at a time where it is about the same thing; what is about different things does not wait for each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

import msgspec
from attrs import define, field
from twisted.internet.defer import DeferredLock

T = TypeVar("T")


class _Turn(msgspec.Struct):
    lock: DeferredLock = msgspec.field(default_factory=DeferredLock)
    users: int = 0
    """Who works or waits. The lock itself can't be asked: while it is released, work that was waiting may begin, end,
    and begin again."""


@define(eq=False)
class OneAtATime:
    """Runs work, first come first served."""

    _turns: dict[Hashable, _Turn] = field(factory=dict, init=False)

    async def alone(self, about: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The outcome of `work()`, begun when no other that is about the same is under way."""
        turn = self._turns.get(about)
        if turn is None:
            turn = self._turns[about] = _Turn()
        turn.users += 1
        try:
            await turn.lock.acquire()
            try:
                return await work()
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[about]

    async def settled(self, about: Hashable) -> None:
        """Wait for what is under way about it now."""
        if about in self._turns:
            await self.alone(about, _nothing)


async def _nothing() -> None: ...

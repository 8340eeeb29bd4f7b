"""One after the other for each, several at once for all: so that one person's files do not hold up everybody's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from attrs import define, field
from twisted.internet.defer import DeferredLock

from homeserver.errors import LimitExceeded

MOST_WAITING = 32
"""Of one owner."""
AGAIN_MS = 2000


@define(eq=False)
class Turns:
    """Who is at work for whom."""

    _locks: dict[Hashable, tuple[DeferredLock, int]] = field(factory=dict, init=False)

    @asynccontextmanager
    async def of(self, owner: Hashable) -> AsyncIterator[None]:
        """Wait for the owner's turn. Raises LimitExceeded where too much of theirs waits already."""
        lock, users = self._locks.get(owner) or (DeferredLock(), 0)
        if users >= MOST_WAITING:
            raise LimitExceeded(AGAIN_MS)
        self._locks[owner] = (lock, users + 1)
        try:
            await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            _, users = self._locks[owner]
            if users > 1:
                self._locks[owner] = (lock, users - 1)
            else:
                del self._locks[owner]

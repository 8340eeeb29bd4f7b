"""Bounds on what it may cost that people here are curious about other servers.

Whoever does not answer is left alone for a moment, which grows with each time and ends when they are heard of; and
only so many questions wait for answers at once, so that a server which keeps connections open and says nothing holds
up nobody who asks another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import define, field

from federation.keys.pauses import Pauses
from federation.outbound.transport import PeerError, Unreachable

T = TypeVar("T")

FIRST_PAUSE_MS = 2_000
LONGEST_PAUSE_MS = 60_000
MOST_WAITING = 300
MOST_WAITING_EACH = 20
"""For one server."""


@define(eq=False)
class Patience:
    """Asks, or says at once that it won't."""

    _now_ms: Callable[[], int]
    _most_each: int = MOST_WAITING_EACH
    _most: int = MOST_WAITING
    _pauses: Pauses[str] = field(init=False)
    _waiting: Counter[str] = field(factory=Counter, init=False)

    def __attrs_post_init__(self) -> None:
        self._pauses = Pauses(self._now_ms, 0, FIRST_PAUSE_MS, LONGEST_PAUSE_MS)

    async def ask(self, server: str, question: Callable[[], Awaitable[T]]) -> T:
        """The outcome of `question()`. Raises `Unreachable` without asking where that would be too much."""
        if self._pauses.is_on(server):
            raise Unreachable(server, "it did not answer a moment ago")
        if self._waiting[server] >= self._most_each or self._waiting.total() >= self._most:
            raise Unreachable(server, "too many wait for answers already")
        self._waiting[server] += 1
        try:
            answer = await question()
        except Unreachable:
            if not self._pauses.is_on(server):  # those who waited together have failed once
                self._pauses.failed(server)
            raise
        except PeerError:
            self._pauses.succeeded(server)
            raise
        finally:
            self._waiting[server] -= 1
            if not self._waiting[server]:
                del self._waiting[server]
        self._pauses.succeeded(server)
        return answer

    def heard_of(self, server: str) -> None:
        """A server is alive: it may be asked again. Cheap, and never waits."""
        self._pauses.succeeded(server)

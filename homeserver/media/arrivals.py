"""Whoever asks for a file whose address was made, but which is not uploaded yet, may wait for it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred

from federation.bounded import Bounded
from homeserver.clock import Clock
from storage.media import MediaKey

LONGEST_WAIT_MS = 60_000
MOST_WAITING = 1000
"""Whoever comes when so many wait is told at once that it is not there."""


@define(eq=False)
class Arrivals:
    """Who waits for what."""

    _clock: Clock
    _waiting: dict[MediaKey, list[Deferred[bool]]] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)
    _lately: Bounded[MediaKey, bool] = field(factory=lambda: Bounded(MOST_WAITING), init=False)
    """What came a moment ago, perhaps while whoever asks for it now was told that it was not there."""

    async def wait(self, key: MediaKey, timeout_ms: int) -> bool:
        """Wait until it comes, for so long at most. Whether it did. Cancelling it is fine."""
        timeout_ms = min(timeout_ms, LONGEST_WAIT_MS)
        if self._lately.get(key):
            return True
        if timeout_ms <= 0 or self._count >= MOST_WAITING:
            return False
        waiting: Deferred[bool] = Deferred()
        self._waiting.setdefault(key, []).append(waiting)
        self._count += 1
        timeout = self._clock.timers.callLater(timeout_ms / 1000, waiting.callback, False)
        try:
            return await waiting
        finally:
            if timeout.active():
                timeout.cancel()
            self._count -= 1
            others = [one for one in self._waiting.get(key, ()) if one is not waiting]
            if others:
                self._waiting[key] = others
            else:
                self._waiting.pop(key, None)

    def came(self, key: MediaKey) -> None:
        """It is here."""
        self._lately.put(key, True)
        for waiting in self._waiting.pop(key, ()):
            if not waiting.called:
                waiting.callback(True)

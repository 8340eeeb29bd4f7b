"""The time, as an argument: nothing in the house reads a clock that it was not handed."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@frozen
class Clock:
    """Wall time for what others see, and the reactor's timers. Tests build it from one `task.Clock`."""

    timers: IReactorTime
    """For `callLater`; its `seconds` may be monotonic and says nothing about the date."""
    now_ms: Callable[[], int] = _wall_ms
    """Milliseconds since 1970."""

    def elapsed_ms(self) -> int:
        """Milliseconds since some moment, by the time that timers go by: for pauses, whatever the date is set to."""
        return int(self.timers.seconds() * 1000)

"""Work that is begun and not awaited: kept, logged when it fails, and ended at shutdown."""

# Twisted's Failure has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import structlog
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

_log = structlog.get_logger("homeserver.tasks")


@define(eq=False)
class Tasks:
    """The work that this server has going on in the background."""

    _running: dict[Deferred[None], str] = field(factory=dict, init=False)
    _closed: bool = field(default=False, init=False)

    def spawn(self, name: str, work: Coroutine[Deferred[Any], Any, Any]) -> None:
        """Begin `work` now and forget about it here. What it raises is logged under `name`."""
        if self._closed:
            work.close()
            return
        task: Deferred[None] = Deferred.fromCoroutine(work)
        if not task.called:
            self._running[task] = name
        task.addBoth(self._ended, name, task)

    @property
    def names(self) -> list[str]:
        """What is going on, for those who look into a running server."""
        return sorted(self._running.values())

    async def close(self) -> None:
        """Cancel what is going on and wait until it has let go. From now on nothing begins."""
        self._closed = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await DeferredList(running)

    def _ended(self, result: Any, name: str, task: Deferred[None]) -> None:
        self._running.pop(task, None)
        if isinstance(result, Failure) and not result.check(CancelledError):
            _log.error("task failed", task=name, exc_info=(result.type, result.value, result.getTracebackObject()))

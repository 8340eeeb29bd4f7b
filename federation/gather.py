"""Several things at once: each runs to its end, and the outcomes come in the order of the work."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

T = TypeVar("T")


async def gather(work: Iterable[Coroutine[Deferred[Any], Any, T]]) -> list[T]:
    """Begin all of it now and wait for all. Give it work that does not raise; cancelling it cancels the work."""
    try:
        outcomes: list[T] = await gatherResults([Deferred.fromCoroutine(each) for each in work], consumeErrors=True)
    except FirstError as first:  # which for somebody who was cancelled is CancelledError
        assert first.subFailure.value is not None
        raise first.subFailure.value from None
    return outcomes

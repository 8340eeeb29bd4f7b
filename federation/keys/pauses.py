"""Whom not to ask again for a while."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec
from attrs import define, field

from federation.bounded import Bounded

K = TypeVar("K", bound=Hashable)

REMEMBERED = 20_000


class _Pause(msgspec.Struct, frozen=True):
    until_ms: int
    failures: int = 0


@define
class Pauses(Generic[K]):
    """A pause after each attempt: as long as `after_success_ms`, or growing with each failure in a row."""

    _now_ms: Callable[[], int]
    _after_success_ms: int
    _first_failure_ms: int
    _longest_ms: int
    _pauses: Bounded[K, _Pause] = field(factory=lambda: Bounded(REMEMBERED), init=False)

    def is_on(self, key: K) -> bool:
        pause = self._pauses.get(key)
        return pause is not None and self._now_ms() < pause.until_ms

    def succeeded(self, key: K) -> None:
        self._pauses.put(key, _Pause(self._now_ms() + self._after_success_ms))

    def failed(self, key: K) -> None:
        before = self._pauses.get(key)
        failures = before.failures if before is not None else 0
        length_ms = min(self._first_failure_ms << min(failures, 20), self._longest_ms)
        self._pauses.put(key, _Pause(self._now_ms() + length_ms, failures + 1))

"""Waiting for rooms to become whole."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

PATIENCE_S = 50.0
"""Less than what proxies and clients wait for an answer."""


@define(eq=False)
class Waiting:
    """Who waits for which room (nid)."""

    _timers: IReactorTime
    _waiters: dict[int, list[Deferred[bool]]] = field(factory=dict, init=False)

    async def for_room(self, room_nid: int, patience_s: float) -> bool:
        """Until something changes about the room. False: nothing has, and patience is at its end."""
        waiter: Deferred[bool] = Deferred()
        self._waiters.setdefault(room_nid, []).append(waiter)
        timer = self._timers.callLater(patience_s, self._give_up, waiter)
        try:
            return await waiter
        finally:
            if timer.active():
                timer.cancel()
            waiters = self._waiters.get(room_nid)
            if waiters is not None and waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[room_nid]

    def wake(self, room_nid: int) -> None:
        """The room is whole, or nobody here is in it any more."""
        for waiter in self._waiters.pop(room_nid, ()):
            if not waiter.called:
                waiter.callback(True)

    def _give_up(self, waiter: Deferred[bool]) -> None:
        if not waiter.called:
            waiter.callback(False)

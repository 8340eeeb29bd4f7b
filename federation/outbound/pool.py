"""Connections that wait for their next request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from federation.outbound.connection import PeerConnection

IDLE_S = 50.0
"""How long a connection is kept for another request: less than servers usually keep it, or requests would be lost."""
MOST_IDLE = 256
SWEEP_S = 10.0


@define(eq=False)
class Pool:
    """Idle connections by what they lead to."""

    _clock: IReactorTime
    _idle: OrderedDict[PeerConnection, Hashable] = field(factory=OrderedDict, init=False)
    """Longest idle first."""
    _by_key: dict[Hashable, list[PeerConnection]] = field(factory=dict, init=False)
    _sweeping: IDelayedCall | None = field(default=None, init=False)

    def put(self, key: Hashable, connection: PeerConnection) -> None:
        """Keep a connection whose answer is complete."""
        if connection.lost:
            return
        connection.idle_since = self._clock.seconds()
        connection.on_lost = lambda: self._drop(connection)
        self._idle[connection] = key
        self._by_key.setdefault(key, []).append(connection)
        if len(self._idle) > MOST_IDLE:
            self._end(next(iter(self._idle)))
        if self._sweeping is None:
            self._sweeping = self._clock.callLater(SWEEP_S, self._sweep)

    def take(self, key: Hashable) -> PeerConnection | None:
        """The most recently used connection of that key, if there is one."""
        waiting = self._by_key.get(key)
        if not waiting:
            return None
        connection = waiting[-1]
        self._drop(connection)
        return connection

    def close(self) -> None:
        for connection in list(self._idle):
            self._end(connection)
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def __len__(self) -> int:
        return len(self._idle)

    def _sweep(self) -> None:
        self._sweeping = None
        before = self._clock.seconds() - IDLE_S
        for connection in list(self._idle):
            if connection.idle_since > before:
                break
            self._end(connection)
        if self._idle:
            self._sweeping = self._clock.callLater(SWEEP_S, self._sweep)

    def _end(self, connection: PeerConnection) -> None:
        self._drop(connection)
        connection.abort()

    def _drop(self, connection: PeerConnection) -> None:
        connection.on_lost = lambda: None
        key = self._idle.pop(connection, None)
        if key is not None:
            waiting = self._by_key[key]
            waiting.remove(connection)
            if not waiting:
                del self._by_key[key]

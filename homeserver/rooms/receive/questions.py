"""The same question to the same peer is not asked again and again: one that lies, or has lost what it speaks of, is
left in peace for longer and longer.

What came of a question is kept, and not asked for any more; so one that comes up again had no good answer. It is asked
again at once a few times, as much may have changed meanwhile. A question that was not heard does not count.

     asked ──► again, at once ──► pause ──► again ──► longer pause ──► …
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

import msgspec
from attrs import field

from federation.bounded import Bounded
from federation.outbound.transport import Unreachable
from federation.service import service
from homeserver.clock import Clock
from homeserver.rooms.receive.ports import Peers, StateIds, WholeState

FREELY = 3
"""How often a question is asked without a pause."""
FIRST_PAUSE_MS = 30_000
LONGEST_PAUSE_MS = 3_600_000

T = TypeVar("T")


class _Asked(msgspec.Struct):
    times: int = 0
    until_ms: int = 0
    """Not again before."""


@service
class Questions:
    """`Peers`, asked with patience. Raises `Unreachable` instead of asking."""

    peers: Peers
    clock: Clock
    _asked: Bounded[Hashable, _Asked] = field(factory=lambda: Bounded(20_000))

    async def get_missing_events(
        self, server: str, room_id: str, *, earliest: Sequence[str], latest: Sequence[str], limit: int
    ) -> Sequence[bytes]:
        async def ask() -> Sequence[bytes]:
            return await self.peers.get_missing_events(server, room_id, earliest=earliest, latest=latest, limit=limit)

        return await self._once((server, room_id, *latest), ask)

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds:
        return await self._once(
            (server, "state_ids", event_id), lambda: self.peers.state_ids(server, room_id, event_id)
        )

    async def state(self, server: str, room_id: str, event_id: str) -> WholeState:
        return await self._once((server, "state", event_id), lambda: self.peers.state(server, room_id, event_id))

    async def event(self, server: str, event_id: str) -> bytes:
        return await self._once((server, "event", event_id), lambda: self.peers.event(server, event_id))

    async def backfill(self, server: str, room_id: str, *, earliest: Sequence[str], limit: int) -> Sequence[bytes]:
        """`homeserver.rooms.remote.backfill` has pauses of its own."""
        return await self.peers.backfill(server, room_id, earliest=earliest, limit=limit)

    async def _once(self, question: tuple[str, ...], ask: Callable[[], Awaitable[T]]) -> T:
        asked = self._asked.get(question) or _Asked()
        now = self.clock.elapsed_ms()
        if now < asked.until_ms:
            raise Unreachable(question[0], "it was asked for that lately, and nothing came of it")
        try:
            return await ask()
        except Unreachable:
            asked.times -= 1  # it was not heard
            raise
        finally:
            asked.times += 1
            if asked.times >= FREELY:
                pause_ms = FIRST_PAUSE_MS << min(asked.times - FREELY, 20)
                asked.until_ms = self.clock.elapsed_ms() + min(pause_ms, LONGEST_PAUSE_MS)
            self._asked.put(question, asked)

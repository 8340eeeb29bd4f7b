"""Events whose grounds could not be had just now, as a server that has them could not be reached: tried again later.

Whoever sent them was told that all is well, as nothing is wrong with them, and will not send them again. Something that
follows them would bring them, but perhaps nothing does for long. This is a courtesy, kept in memory and within limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import field, frozen
from twisted.internet.task import deferLater

from homeserver.clock import Clock
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks

PAUSES_S = (15, 60, 300, 1200, 3600)
MOST_OF_ROOM = 20
"""Events of one server in one room; the newest: what came before is asked for with them."""
MOST_ROOMS = 5
"""In which events of one server wait."""
MOST = 200
"""Servers and rooms in all."""

Key = tuple[str, str]
"""A server and a room."""


@frozen
class Later:
    """Keeps them and tries again."""

    rooms: Rooms
    receiver: Receiver
    tasks: Tasks
    clock: Clock
    _kept: dict[Key, list[bytes]] = field(factory=dict, init=False)
    _by_server: Counter[str] = field(factory=Counter, init=False)

    def keep(self, origin: str, room_id: str, raws: Sequence[bytes]) -> None:
        key = (origin, room_id)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MOST or self._by_server[origin] >= MOST_ROOMS:
                return
            kept = self._kept[key] = []
            self._by_server[origin] += 1
            self.tasks.spawn("events again", self._try_again(key))
        kept[:] = [*dict.fromkeys([*kept, *raws])][-MOST_OF_ROOM:]

    async def _try_again(self, key: Key) -> None:
        origin, room_id = key
        try:
            for pause_s in PAUSES_S:
                await deferLater(self.clock.timers, pause_s, lambda: None)
                room = await self.rooms.get(room_id)
                if room is None or not room.local_joined:
                    return
                tried = list(self._kept[key])
                verdicts = await self.receiver.receive(origin, room_id, tried)
                left = {raw for raw, verdict in zip(tried, verdicts, strict=True) if verdict.outcome == "unfounded"}
                self._kept[key][:] = [raw for raw in self._kept[key] if raw in left or raw not in tried]
                if not self._kept[key]:
                    return
        finally:
            del self._kept[key]
            self._by_server[origin] -= 1
            if not self._by_server[origin]:
                del self._by_server[origin]

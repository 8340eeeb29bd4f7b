"""Events that a peer believes to be here and that are not yet: tried again later, also by a server that starts anew.

Their grounds could not be had just now, as a server that has them could not be reached; or it took too long to judge
them, and the answer went out before. Whoever sent them was told that all is well, as nothing is wrong with them, and
will not send them again. Something that follows them would bring them, but perhaps nothing does for long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import field
from twisted.internet.task import deferLater

from federation.service import service
from homeserver.clock import Clock
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from storage import heard
from storage.database import Database

PAUSES_S = (15, 60, 300, 1200, 3600)
MOST_OF_ROOM = 20
"""Events of one server in one room; the newest: what came before is asked for with them."""
MOST_ROOMS = 20
"""In which events of one server wait."""
MOST = 500
"""Servers and rooms in all."""

Key = tuple[str, str]
"""A server and a room."""


@service
class Later:
    """Keeps them, on disk and at hand, and tries again."""

    rooms: Rooms
    receiver: Receiver
    database: Database
    tasks: Tasks
    clock: Clock
    _kept: dict[Key, list[bytes]] = field(factory=dict, init=False)
    _by_server: Counter[str] = field(factory=Counter, init=False)

    async def start(self) -> None:
        """Go on with what an earlier run of this server had to leave."""
        for (origin, room_id), raws in (await self.database.run(heard.everything)).items():
            self._add(origin, room_id, raws)

    async def keep(self, origin: str, room_id: str, raws: Sequence[bytes]) -> None:
        """They are kept when this has come to its end: then the peer may be told that all is well."""
        if self._add(origin, room_id, raws):
            await self._write((origin, room_id))

    def _add(self, origin: str, room_id: str, raws: Sequence[bytes]) -> bool:
        key = (origin, room_id)
        kept = self._kept.get(key)
        if kept is not None:
            kept[:] = [*dict.fromkeys([*kept, *raws])][-MOST_OF_ROOM:]
        elif len(self._kept) < MOST and self._by_server[origin] < MOST_ROOMS:
            self._kept[key] = [*dict.fromkeys(raws)][-MOST_OF_ROOM:]
            self._by_server[origin] += 1
            self.tasks.spawn("events again", self._try_again(key))
        return key in self._kept

    async def _try_again(self, key: Key) -> None:
        try:
            while self._kept[key]:
                await self._try_for_long(key)
        finally:
            del self._kept[key]
            self._by_server[key[0]] -= 1
            if not self._by_server[key[0]]:
                del self._by_server[key[0]]

    async def _try_for_long(self, key: Key) -> None:
        """And give up what is there in the end."""
        for pause_s in PAUSES_S:
            await deferLater(self.clock.timers, pause_s, lambda: None)
            await self._try(key)
            if not self._kept[key]:
                return
        self._kept[key].clear()
        await self._write(key)

    async def _try(self, key: Key) -> None:
        origin, room_id = key
        tried = list(self._kept[key])
        left: set[bytes] = set()
        room = await self.rooms.get(room_id)
        if room is not None and room.local_joined:
            verdicts = await self.receiver.receive(origin, room_id, tried)
            left = {raw for raw, verdict in zip(tried, verdicts, strict=True) if verdict.outcome == "unfounded"}
        self._kept[key][:] = [raw for raw in self._kept[key] if raw in left or raw not in tried]
        await self._write(key)

    async def _write(self, key: Key) -> None:
        await self.database.write(heard.put, *key, self._kept[key])

"""A room's past that is not here, from before this server was there or from while it was away: asked for when somebody
reads that far.

Spec: https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from functools import partial

import msgspec
import structlog
from attrs import field

from federation.bounded import Bounded
from federation.outbound.transport import PeerError
from federation.room.event import Event
from federation.service import service
from homeserver.clock import Clock
from homeserver.rooms.live import LiveRoom, StillPartial
from homeserver.rooms.past import Moment
from homeserver.rooms.remote.peers import RemotePeers
from homeserver.rooms.remote.placing import Placer
from storage.database import Database
from storage.gaps import Gap, find_gap

BATCH = 100
MOST_NAMED = 20
"""Missing events of one gap from which one question goes on."""
PATIENCE_S = 10.0
"""How long a reader of the past waits for a room to become whole."""
MOST_SERVERS = 3
"""That are asked in turn."""
FIRST_PAUSE_MS = 60_000
LONGEST_PAUSE_MS = 24 * 3_600_000

log = structlog.get_logger("homeserver.rooms.remote")


class _Pause(msgspec.Struct):
    """After a failure: until when nobody asks again, and how long it will be after the next one."""

    until_ms: int
    next_ms: int


_Place = tuple[int, int]
"""A gap: room (nid) and position."""


@service
class Backfill:
    """Implements `homeserver.rooms.past.Past`."""

    server_name: str
    peers: RemotePeers
    placer: Placer
    database: Database
    clock: Clock
    _pauses: Bounded[_Place, _Pause] = field(factory=lambda: Bounded(5_000))
    """What can't be had, or can't be verified, costs its readers one try in a while."""

    def can_extend(self, room: LiveRoom, gap: Gap) -> bool:
        pause = self._pauses.get((room.nid, gap.position))
        return bool(self._others(room)) and (pause is None or self.clock.elapsed_ms() >= pause.until_ms)

    async def extend(self, room: LiveRoom, gap: Gap) -> bool:
        if not self.can_extend(room, gap) or not await self._is_whole(room):
            return False
        return await self.placer.receiver.alone(room.room_id, partial(self._extend, room, gap))

    async def reach(self, room: LiveRoom, gap: Gap, moment: Moment, closer_than_ms: int | None) -> bool:
        if not self.can_extend(room, gap) or not await self._is_whole(room):
            return False
        unheard = True
        for server in self._others(room)[:MOST_SERVERS]:
            try:
                told = await self.peers.timestamp_to_event(server, room.room_id, moment.ts, moment.direction)
                unheard = False
                if not moment.is_closer(told.origin_server_ts, closer_than_ms):
                    return False
                raw = await self.peers.event(server, told.event_id)
            except PeerError as error:
                log.info("no event of that time", peer=server, room=room.room_id, why=error.why)
                continue
            event = (await self.placer.receiver.gatherer.check(room.version, [raw]))[0]
            if not isinstance(event, Event) or (event.room_id, event.event_id) != (room.room_id, told.event_id):
                continue
            if not moment.is_closer(event.origin_server_ts, closer_than_ms):
                continue
            place = partial(self.placer.place_alone, server, room, gap, event)
            if await self.placer.receiver.alone(room.room_id, place):
                return True
        if unheard:
            self._pause((room.nid, gap.position))
        return False

    async def _is_whole(self, room: LiveRoom) -> bool:
        """Waits for the members of a partial room: they are a part of what has to be fetched for the past, too."""
        if room.partial is not None:
            try:
                await self.placer.receiver.rooms.whole(room, PATIENCE_S)
            except StillPartial:
                return False
        return True

    async def _extend(self, room: LiveRoom, gap: Gap) -> bool:
        # Somebody else may have fetched it meanwhile.
        now = await self.database.run(find_gap, room.nid, after=gap.position - 1, upto=gap.position)
        if now != gap:
            return True
        for server in self._others(room)[:MOST_SERVERS]:
            try:
                earliest = gap.event_ids[:MOST_NAMED]
                raws = await self.peers.backfill(server, room.room_id, earliest=earliest, limit=BATCH)
            except PeerError as error:
                log.info("no backfill", peer=server, room=room.room_id, why=error.why)
                continue
            checked = await self.placer.receiver.gatherer.check(room.version, raws[:BATCH])
            events = {one.event_id: one for one in checked if isinstance(one, Event) and one.room_id == room.room_id}
            if events and await self.placer.place(server, room, gap, events):
                self._pauses.forget((room.nid, gap.position))
                return True
        self._pause((room.nid, gap.position))
        return False

    def _others(self, room: LiveRoom) -> list[str]:
        """Who may know more, the likeliest first."""
        return [server for server in room.servers_by_size() if server != self.server_name]

    def _pause(self, place: _Place) -> None:
        pause = self._pauses.get(place)
        length_ms = FIRST_PAUSE_MS if pause is None else pause.next_ms
        self._pauses.put(place, _Pause(self.clock.elapsed_ms() + length_ms, min(LONGEST_PAUSE_MS, 2 * length_ms)))

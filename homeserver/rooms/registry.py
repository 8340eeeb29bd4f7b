"""Which rooms are in use: each is one `LiveRoom`, read once however many ask for it, and dropped when it rests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from immutables import Map
from twisted.internet.defer import Deferred

from federation.room.versions import ROOM_VERSIONS
from homeserver.errors import Forbidden
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom, Standing
from homeserver.streams.hub import Hub
from storage import rooms as room_rows
from storage.database import Database
from storage.ports import Cursor

MAX_WEIGHT = 60_000
"""How much state all live rooms may hold together, in state events; a little under half a KiB each."""


NOT_IN_ROOM = "You are not in this room"


class Rooms:
    """The rooms in use, by id and by nid."""

    def __init__(self, database: Database, events: EventCache, hub: Hub, server_name: str) -> None:
        self._database = database
        self._events = events
        self._hub = hub
        self._server_name = server_name
        self._by_nid: OrderedDict[int, LiveRoom] = OrderedDict()
        self._nids: dict[str, int] = {}
        self._loading: dict[int | str, list[Deferred[None]]] = {}
        self._weight = 0
        self._condemned: set[int] = set()

    def peek(self, room_id: str) -> LiveRoom | None:
        """The room if it is in use. Never waits."""
        nid = self._nids.get(room_id)
        return None if nid is None else self._by_nid.get(nid)

    def peek_nid(self, nid: int) -> LiveRoom | None:
        return self._by_nid.get(nid)

    async def get(self, room_id: str) -> LiveRoom | None:
        """The room, read from the database where it is not in use; None if this server does not know it."""
        room = self.peek(room_id)
        if room is None:
            room = await self._load_one(room_id)
        else:
            self._by_nid.move_to_end(room.nid)
        return room

    async def require(self, room_id: str) -> LiveRoom:
        """The room, for someone who claims to be in it. Raises Forbidden where this server does not know it: an
        outsider is told the same of a room that exists.
        """
        room = await self.get(room_id)
        if room is None:
            raise Forbidden(NOT_IN_ROOM)
        return room

    async def get_many(self, nids: Sequence[int]) -> dict[int, LiveRoom]:
        """Rooms by nid, read in one go where they are not in use. Unknown nids are left out."""
        found = {nid: room for nid in nids if (room := self._by_nid.get(nid)) is not None}
        missing = [nid for nid in nids if nid not in found]
        while missing:
            busy = [nid for nid in missing if nid in self._loading]
            if busy:
                await self._wait_for(busy[0])
            else:
                await self._load(missing)
            found.update((nid, room) for nid in missing if (room := self._by_nid.get(nid)) is not None)
            missing = [nid for nid in busy if nid not in found]
        return found

    def add(self, room: LiveRoom) -> None:
        """Take in a room that was just made or read."""
        self._by_nid[room.nid] = room
        self._nids[room.room_id] = room.nid
        self._weight += _weight(room)
        self._make_space()

    def drop(self, room: LiveRoom) -> None:
        """Forget a room: it is read again when it is next needed."""
        if self._by_nid.get(room.nid) is room:
            del self._by_nid[room.nid]
            self._nids.pop(room.room_id, None)
            self._weight -= _weight(room)
        if room.nid in self._condemned:
            self._condemned.discard(room.nid)
            self._loaded(room.nid)

    def condemn(self, room: LiveRoom) -> None:
        """What the room looks like in memory is not true: nobody gets it any more until `drop`, whoever asks waits."""
        if self._by_nid.get(room.nid) is room and room.nid not in self._condemned:
            del self._by_nid[room.nid]
            self._nids.pop(room.room_id, None)
            self._weight -= _weight(room)
            self._condemned.add(room.nid)
            self._loading[room.nid] = []

    def __len__(self) -> int:
        return len(self._by_nid)

    # ----------------------------------------------------------------------------------------------------------

    def _make_space(self) -> None:
        if self._weight <= MAX_WEIGHT:
            return
        self._weight = sum(map(_weight, self._by_nid.values()))  # rooms grow while they are in use
        for room in list(self._by_nid.values())[:-1]:
            if self._weight <= MAX_WEIGHT:
                break
            if not room.queued:
                self.drop(room)

    async def _wait_for(self, key: int | str) -> None:
        waiter: Deferred[None] = Deferred()
        self._loading[key].append(waiter)
        await waiter

    def _loaded(self, key: int | str) -> None:
        for waiter in self._loading.pop(key):
            waiter.callback(None)

    async def _load_one(self, room_id: str) -> LiveRoom | None:
        if room_id in self._loading:
            await self._wait_for(room_id)
            return await self.get(room_id)
        self._loading[room_id] = []
        try:
            nid = await self._database.run(room_rows.find_nid, room_id)
            if nid is None:
                return None
            return (await self.get_many([nid])).get(nid)
        finally:
            self._loaded(room_id)

    async def _load(self, nids: Sequence[int]) -> None:
        for nid in nids:
            self._loading[nid] = []
        try:
            # A room that is not live has nothing queued, so what the database says is its newest standing, and
            # nobody can add to it before it is in `_by_nid`: writers, too, wait for this load.
            floor = self._hub.position
            for loaded in await self._database.run(read_rooms, nids):
                create = loaded.create
                self._events.put(create)
                version = ROOM_VERSIONS[loaded.version]
                standing = Standing(loaded.head, Map(loaded.state))
                self.add(LiveRoom(loaded.nid, version, create.event, standing, floor, self._server_name))
        finally:
            for nid in nids:
                self._loaded(nid)


def read_rooms(cursor: Cursor, nids: Sequence[int]) -> list[room_rows.LoadedRoom]:
    return [loaded for nid in nids if (loaded := room_rows.load_room(cursor, nid)) is not None]


def _weight(room: LiveRoom) -> int:
    return len(room.visible.state) + 20

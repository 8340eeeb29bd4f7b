"""Which rooms are in use: each is one `LiveRoom`, read once however many ask for it, and dropped when it rests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from immutables import Map
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from federation.room.identifiers import InvalidIdentifier, parse_room_id
from federation.room.versions import ROOM_VERSIONS
from homeserver.errors import Forbidden
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom, Standing, StillPartial
from homeserver.rooms.waiting import PATIENCE_S, Waiting
from homeserver.streams.hub import Hub
from storage import rooms as room_rows
from storage.database import Database
from storage.ports import Cursor

RECOUNT_AFTER = 64
"""After so many new rooms the weights are taken again: rooms grow while they are in use."""

NOT_IN_ROOM = "You are not in this room"


class Rooms:
    """The rooms in use, by id and by nid."""

    def __init__(
        self, database: Database, events: EventCache, hub: Hub, server_name: str, max_weight: int = 60_000
    ) -> None:
        """`max_weight`: how much state all of them may hold together, in state events; under half a KiB each."""
        self.max_weight = max_weight
        self._database = database
        self._events = events
        self._hub = hub
        self._server_name = server_name
        self._by_nid: OrderedDict[int, LiveRoom] = OrderedDict()
        self._nids: dict[str, int] = {}
        self._asking: dict[str, list[Deferred[bool]]] = {}
        """Rooms that are looked up by their ids, and who waits to hear whether they are known, first come first."""
        self._loading: dict[int, list[Deferred[None]]] = {}
        """Rooms that are being read or condemned, and who waits for the end of that."""
        self._weights: dict[int, int] = {}
        """Of each room in use, when it was last weighed."""
        self._weight = 0
        """Their sum."""
        self._added = 0
        self._condemned: set[int] = set()
        self._waiting = Waiting(hub.timers)

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

    async def whole(self, room: LiveRoom, patience_s: float = PATIENCE_S) -> LiveRoom:
        """The room once all of its members are known, which it waits for. Raises StillPartial if that takes too long.

        A partial room that nobody here is in any more is given as it is: nothing will make it whole.
        """
        while room.partial is not None:
            if not await self._waiting.for_room(room.nid, patience_s):
                raise StillPartial(room.room_id)
            room = await self.require(room.room_id)
        return room

    def stay_ended(self, room: LiveRoom) -> None:
        """A partial room became whole, or was left: whoever waits for that looks again."""
        self._waiting.wake(room.nid)

    async def get_many(self, nids: Iterable[int]) -> dict[int, LiveRoom]:
        """Rooms by nid, read in one go where they are not in use. Unknown nids are left out.

        Where there are more than may be kept, some are as they were when they were read: for readers only.
        """
        found: dict[int, LiveRoom] = {}
        missing = list(dict.fromkeys(nids))
        while missing:
            idle: list[int] = []
            busy: list[int] = []
            for nid in missing:
                room = self._by_nid.get(nid)
                if room is not None:
                    self._by_nid.move_to_end(nid)
                    found[nid] = room
                else:
                    (busy if nid in self._loading else idle).append(nid)
            if idle:
                found.update(await self._load(idle))
            elif busy:
                await self._wait_for(busy[0])
            missing = busy
        return found

    def add(self, room: LiveRoom) -> None:
        """Take in a room that was just made or read."""
        self._by_nid[room.nid] = room
        # A new room whose id turns out to be taken must not take the place of the one that has it.
        self._nids.setdefault(room.room_id, room.nid)
        self._weights[room.nid] = weight = _weight(room)
        self._weight += weight
        self._added += 1
        if self._weight > self.max_weight or self._added % RECOUNT_AFTER == 0:
            self._make_space()

    def drop(self, room: LiveRoom) -> None:
        """Forget a room: it is read again when it is next needed."""
        if self._by_nid.get(room.nid) is room:
            self._remove(room)
        if room.nid in self._condemned:
            self._condemned.discard(room.nid)
            self._loaded(room.nid)

    def condemn(self, room: LiveRoom) -> None:
        """What the room looks like in memory is not true: nobody gets it any more until `drop`, whoever asks waits."""
        if self._by_nid.get(room.nid) is room:
            self._remove(room)
            self._condemned.add(room.nid)
            self._loading[room.nid] = []

    def __len__(self) -> int:
        return len(self._by_nid)

    # ----------------------------------------------------------------------------------------------------------

    def _remove(self, room: LiveRoom) -> None:
        del self._by_nid[room.nid]
        if self._nids.get(room.room_id) == room.nid:
            del self._nids[room.room_id]
        self._weight -= self._weights.pop(room.nid)

    def _make_space(self) -> None:
        self._weights = {nid: _weight(room) for nid, room in self._by_nid.items()}
        self._weight = sum(self._weights.values())
        if self._weight <= self.max_weight:
            return
        # A little more than it must be, so that it is not done again for the next room.
        for room in list(self._by_nid.values())[:-1]:
            if self._weight <= self.max_weight * 9 // 10:
                break
            if not room.queued:
                self._remove(room)

    async def _wait_for(self, nid: int) -> None:
        waiter: Deferred[None] = Deferred()
        self._loading[nid].append(waiter)
        await waiter

    def _loaded(self, nid: int) -> None:
        for waiter in self._loading.pop(nid):
            waiter.callback(None)

    async def _load_one(self, room_id: str) -> LiveRoom | None:
        if not _may_exist(room_id):
            return None
        while True:
            # Who comes first is served first, so that what was sent first to a room is first in it.
            waiter: Deferred[bool] = Deferred()
            if room_id in self._asking:
                self._asking[room_id].append(waiter)
            else:
                self._asking[room_id] = [waiter]
                Deferred.fromCoroutine(self._find(room_id)).addBoth(self._found, room_id)
            is_known = await waiter
            # Looked up again, as others ran in between: whoever writes must have the one that is in use.
            room = self.peek(room_id)
            if room is not None or not is_known:
                return room

    async def _find(self, room_id: str) -> bool:
        """Take a room into use; says whether it is known."""
        nid = await self._database.run(room_rows.find_nid, room_id)
        return nid is not None and nid in await self.get_many([nid])

    def _found(self, outcome: bool | Failure, room_id: str) -> None:
        for waiter in self._asking.pop(room_id):
            if isinstance(outcome, Failure):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)

    async def _load(self, nids: Sequence[int]) -> dict[int, LiveRoom]:
        for nid in nids:
            self._loading[nid] = []
        found: dict[int, LiveRoom] = {}
        try:
            # A room that is not live has nothing queued, so what the database says is its newest standing, and
            # nobody can add to it before it is in `_by_nid`: writers, too, wait for this load.
            floor = self._hub.position
            for loaded in await self._database.run(read_rooms, nids):
                create = loaded.create
                self._events.put(create)
                version = ROOM_VERSIONS[loaded.version]
                standing = Standing(loaded.head, Map(loaded.state))
                # Newer than the hub knows: committed by a write of which nobody could be told (`CommitUnknown`).
                known = max(floor, loaded.row.newest)
                room = LiveRoom(loaded.nid, version, create.event, standing, known, self._server_name)
                room.whole_since = loaded.row.whole_since
                room.recall_stays(loaded.stays)
                found[room.nid] = room
                self.add(room)
        finally:
            for nid in nids:
                self._loaded(nid)
        return found


def _may_exist(room_id: str) -> bool:
    try:
        parse_room_id(room_id)
    except InvalidIdentifier:
        return False
    return True


def read_rooms(cursor: Cursor, nids: Sequence[int]) -> list[room_rows.LoadedRoom]:
    return [loaded for nid in nids if (loaded := room_rows.load_room(cursor, nid)) is not None]


def _weight(room: LiveRoom) -> int:
    return len(room.visible.state) + 20

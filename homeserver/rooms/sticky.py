"""Which events stick to which rooms now: in memory, since they are few and soon over, and read at the start.

An observer of the door (`homeserver.rooms.accept.Observer`).

MSC4354: https://github.com/matrix-org/matrix-spec-proposals/pull/4354
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from attrs import define, field

from federation.room.identifiers import server_of
from federation.room.sticky import sticks_until
from homeserver.clock import Clock
from homeserver.rooms.accept import Accepted
from homeserver.rooms.events import EventCache
from homeserver.rooms.remote.delivery import Outbox
from homeserver.tasks import Tasks
from storage import sticky as rows
from storage.database import Database
from storage.ports import StoredEvent
from storage.sticky import Sticking

MOST_IN_SYNC = 100
"""Of one room, in one answer of /sync to somebody who was in it before."""


@define(eq=False)
class StickyBoard:
    """See the module's docstring. One per process."""

    database: Database
    events: EventCache
    clock: Clock
    tasks: Tasks
    server_name: str
    outbox: Outbox | None
    """Where events go to other servers; None for a server that keeps to itself."""
    _rooms: dict[int, dict[int, Sticking]] = field(factory=dict, init=False)
    """Room → its sticky events by nid, in the order of the stream."""

    async def start(self) -> None:
        """Read what stuck before the server was started."""
        for one in await self.database.run(rows.sticking, self.clock.now_ms()):
            self._rooms.setdefault(one.room_nid, {}).setdefault(one.nid, one)
        for room in self._rooms.values():
            in_order = sorted(room.values(), key=lambda one: one.position)
            room.clear()
            room.update((one.nid, one) for one in in_order)

    def accepted(self, accepted: Accepted) -> None:
        """Something was committed."""
        room_nid = accepted.room.nid
        for new in accepted.events:
            stored = new.stored
            if stored.position <= 0 or stored.rejected or stored.soft_failed:
                continue
            until = sticks_until(stored.event, stored.received_ts)
            if until is not None and until > self.clock.now_ms():
                one = Sticking(stored.nid, room_nid, stored.position, until)
                self._rooms.setdefault(room_nid, {})[stored.nid] = one
        for stored in accepted.redacted:
            if (room := self._rooms.get(room_nid)) is not None:
                room.pop(stored.nid, None)
        if self.outbox is not None and room_nid in self._rooms:
            newcomers = self._newcomers(accepted)
            if newcomers:
                self.tasks.spawn("sticky.bring", self._bring(room_nid, newcomers, accepted.position))

    async def of(self, room_nid: int, after: int, upto: int) -> list[StoredEvent]:
        """What sticks to a room now of what came after one position and up to another, in its order.

        Whoever is in the room may see it: history visibility says nothing of sticky events.
        """
        wanted = [one.nid for one in self._now(room_nid) if after < one.position <= upto]
        if after > 0:
            wanted = wanted[-MOST_IN_SYNC:]
        return await self.read(wanted)

    def within(self, room_nids: Container[int]) -> list[Sticking]:
        """All that sticks to some rooms now, each room's in its order."""
        return [one for nid in list(self._rooms) if nid in room_nids for one in self._now(nid)]

    async def read(self, nids: Sequence[int]) -> list[StoredEvent]:
        """Sticky events, in the order of `nids`; without those that were redacted meanwhile."""
        found = await self.events.get_many(nids) if nids else {}
        return [found[nid] for nid in nids if nid in found and not found[nid].redacted_by]

    def is_empty(self, room_nid: int) -> bool:
        return not self._now(room_nid)

    async def tidy(self) -> None:
        """Forget what is over. To be called now and then."""
        for room_nid in list(self._rooms):
            self._now(room_nid)
        await self.database.write(rows.forget, self.clock.now_ms())

    # ----------------------------------------------------------------------------------------------------------

    def _now(self, room_nid: int) -> Sequence[Sticking]:
        room = self._rooms.get(room_nid)
        if room is None:
            return ()
        now = self.clock.now_ms()
        for nid in [nid for nid, one in room.items() if one.until_ts <= now]:
            del room[nid]
        if not room:
            del self._rooms[room_nid]
        return list(room.values())

    def _newcomers(self, accepted: Accepted) -> list[str]:
        """Servers that were not in the room before."""
        servers = accepted.room.servers
        found = set()
        for new in accepted.events:
            for change in new.changes:
                if change.key[0] != "m.room.member" or change.new is None or change.new.membership != "join":
                    continue
                if change.old is not None and change.old.membership == "join":
                    continue
                server = str(server_of(change.key[1]))
                if server != self.server_name and servers[server] == 1:
                    found.add(server)
        return sorted(found)

    async def _bring(self, room_nid: int, servers: Sequence[str], position: int) -> None:
        """Tell servers that have just come what sticks of what this server's own people said: each sees to its own."""
        assert self.outbox is not None
        for stored in await self.of(room_nid, 0, position):
            if server_of(stored.event.sender) == self.server_name:
                self.outbox.send_pdu(stored.event, servers, stored.position)

"""Messages that are over some time after everybody has read them: notices when that is so.

    receipts, here and from afar ──┐
    somebody leaves or comes ──────┼──► rooms to be looked at ──(a moment later)──► whose time begins to count
    such a message ────────────────┘

What counts is in the database, as is what waits. After a crash each room with something that waits is looked at.

MSC2228: https://github.com/matrix-org/matrix-spec-proposals/pull/2228
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog
from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from federation.room.retention import lasts_ms
from homeserver.clock import Clock
from homeserver.ephemeral.receipts import READ
from homeserver.guilds.steward import is_steward
from homeserver.rooms.accept import Accepted
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from storage import retention as rows
from storage.database import Database
from storage.receipts import Receipt

MOMENT_S = 1.0
"""For so long receipts gather before a room is looked at: that goes through all of the room's."""

RETRY_S = 30.0

log = structlog.get_logger("homeserver.retention")


@define(eq=False)
class ReadTimers:
    """See the module's docstring. One per process; an observer of the door and a listener of receipts."""

    database: Database
    rooms: Rooms
    clock: Clock
    tasks: Tasks
    counts: Callable[[int], None]
    """Told of the time (ms since 1970) at which a message will be over."""
    _waiting: Counter[int] = field(factory=Counter, init=False)
    """Rooms (nid) with messages that wait to be read → how many were noted since that was so."""
    _due: dict[int, None] = field(factory=dict, init=False)
    """Those that are to be looked at."""
    _timer: IDelayedCall | None = field(default=None, init=False)

    async def start(self) -> None:
        """Look at what happened before a crash, or otherwise unseen."""
        for nid in await self.database.run(rows.rooms_with_timers):
            self._note(nid)
        await self._look()

    def accepted(self, accepted: Accepted) -> None:
        """Something was committed."""
        nid = accepted.room.nid
        for new in accepted.events:
            if new.stored.position and lasts_ms(new.stored.event) is not None:
                self._note(nid)
        if nid in self._waiting and any(change.key[0] == "m.room.member" for change in accepted.all_changes()):
            self._look_at(nid)

    def receipts_moved(self, receipts: Sequence[Receipt]) -> None:
        """Receipts were committed (`homeserver.ephemeral.receipts.ReceiptListener`)."""
        if self._waiting:
            for receipt in receipts:
                if receipt.type == READ and receipt.room_nid in self._waiting:
                    self._look_at(receipt.room_nid)

    def close(self) -> None:
        """Nothing is looked at any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self, nid: int) -> None:
        self._waiting[nid] += 1
        self._look_at(nid)

    def _look_at(self, nid: int) -> None:
        self._due[nid] = None
        if self._timer is None:
            self._timer = self.clock.timers.callLater(MOMENT_S, self._strike)

    def _strike(self) -> None:
        self._timer = None
        self.tasks.spawn("retention.read", self._look())

    async def _look(self) -> None:
        due, self._due = self._due, {}
        try:
            await self._look_into(list(due))
        except Exception as error:
            log.warning("whether messages were read could not be found out yet", why=repr(error))
            self._due |= due
            if self._timer is None:
                self._timer = self.clock.timers.callLater(RETRY_S, self._strike)

    async def _look_into(self, nids: Sequence[int]) -> None:
        for nid, room in (await self.rooms.get_many(nids)).items():
            if room.partial is not None:
                continue  # nobody knows yet who is in it
            noted = self._waiting[nid]
            maker = room.create.sender
            timers, others = await self.database.run(rows.read_by_all, nid, maker if is_steward(maker) else None)
            if timers:
                now = self.clock.now_ms()
                await self.database.write(rows.start, nid, timers, now)
                self.counts(now + min(timer.lasts_ms for timer in timers))
            if not others and self._waiting[nid] == noted:
                del self._waiting[nid]

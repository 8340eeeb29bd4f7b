"""Rooms that somebody wants to hear nothing of, for good or until a moment: push rules, and a clock that ends them.

The rule is the one by which clients mute rooms, so they show it and can take it away.

Spec: https://spec.matrix.org/v1.19/client-server-api/#push-rules
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from homeserver.clock import Clock
from homeserver.errors import InvalidParam, NotFound
from homeserver.push.book import RuleBook
from homeserver.push.rules import NewRule, check, put, remove
from homeserver.tasks import Tasks
from storage import mutes as rows
from storage.database import Database
from storage.mutes import Mute

AT_ONCE = 100
LONGEST_SLEEP_S = 24 * 3600.0
"""The clock of the machine may be set: looked at again after that."""


@define(eq=False)
class Mutes:
    """See the module's docstring. One per process; a listener of accounts."""

    book: RuleBook
    database: Database
    clock: Clock
    tasks: Tasks
    _timer: IDelayedCall | None = field(default=None, init=False)

    async def mute(self, user_id: str, room_id: str, until_ts: int | None) -> None:
        """Say nothing of a room until then. Durable when it answers. Raises InvalidParam."""
        if until_ts is not None and until_ts <= self.clock.now_ms():
            raise InvalidParam("`until_ts` is over already")
        rule = NewRule("override", room_id, [], [{"kind": "event_match", "key": "room_id", "pattern": room_id}])
        check(rule)
        # The end is kept first: if the server stops in between there is nothing to end, which does no harm.
        if until_ts is None:
            await self.database.write(rows.remove, user_id, room_id)
        else:
            await self.database.write(rows.put, Mute(user_id, room_id, until_ts))
        await self.book.change(user_id, lambda rules: put(rules, rule))
        await self._wind()

    async def unmute(self, user_id: str, room_id: str) -> None:
        """Raises NotFound where it is not muted."""
        await self.database.write(rows.remove, user_id, room_id)
        await self.book.change(user_id, lambda rules: remove(rules, "override", room_id))

    async def start(self) -> None:
        """End what is over, and wait for the rest."""
        await self._end_due()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """Nothing to do for those who come (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        await self.database.write(rows.remove_all, user_id)

    async def _wind(self) -> None:
        due = await self.database.run(rows.next_ts)
        self.close()
        if due is not None:
            delay = min(max(0.0, (due - self.clock.now_ms()) / 1000), LONGEST_SLEEP_S)
            self._timer = self.clock.timers.callLater(delay, self._strike)

    def _strike(self) -> None:
        self._timer = None
        self.tasks.spawn("mutes", self._end_due())

    async def _end_due(self) -> None:
        while found := await self.database.run(rows.due, self.clock.now_ms(), AT_ONCE):
            for mute in found:
                try:
                    await self.unmute(mute.user_id, mute.room_id)
                except NotFound:
                    continue  # its owner, or a client of theirs, has ended it already
        await self._wind()

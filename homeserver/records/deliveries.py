"""Up to where what is said has come to people's devices: `✓✓` of messengers, without a row per message and reader.

    /sync, sliding sync, push, gateway ── note(user, position) ── memory, to the second ── every minute ── database

Whoever was answered with a position has everything before it: so one position per person tells of all messages, and a
few of them, with their times, tell when each one came. Times that are no longer in memory are exact to a minute.
Being cheap has its price: what a filter left out, or a client has yet to page back to, counts as come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from attrs import define, field

from homeserver.clock import Clock
from storage import deliveries as rows
from storage.database import Database

RESOLUTION_MS = 1_000
HELD = 32
"""Positions of one person in memory."""
IDLE_MS = 3_600_000
"""Whoever got nothing for so long is no longer in memory."""
KEPT_MS = 30 * 24 * 3_600_000
"""For how long it can be told when something came. That it came is known for ever."""

Reached = tuple[int, int]
"""Position, and when it was reached (ms since 1970)."""


@define(eq=False)
class Deliveries:
    """Keeps them. One per process; a listener of accounts."""

    database: Database
    clock: Clock
    _held: dict[str, deque[Reached]] = field(factory=dict, init=False)
    """By user id, the oldest first."""
    _moved: set[str] = field(factory=set, init=False)
    """Of whom the newest is not written down yet."""

    def note(self, user_id: str, position: int) -> None:
        """A device of somebody's has everything up to a position. Called for each answer, so it is quick."""
        held = self._held.get(user_id)
        if held is None:
            held = self._held[user_id] = deque(maxlen=HELD)
        elif held[-1][0] >= position:
            return
        now = self.clock.now_ms()
        if held and now - held[-1][1] < RESOLUTION_MS:
            held[-1] = (position, held[-1][1])
        else:
            held.append((position, now))
        self._moved.add(user_id)

    async def of(self, user_ids: Collection[str], position: int) -> dict[str, int]:
        """Whom what is said at a position has come to, and when."""
        found = await self.database.run(rows.reached, user_ids, position)
        for user_id in user_ids:
            times = [ts for reached, ts in self._held.get(user_id, ()) if reached >= position]
            if times:
                found[user_id] = min(times[0], found.get(user_id, times[0]))
        return found

    async def tidy(self) -> None:
        """Write down what moved. To be called every minute, and at the end."""
        moved, self._moved = self._moved, set()
        reached = [(user_id, *self._held[user_id][-1]) for user_id in sorted(moved)]
        if reached:
            await self.database.write(rows.note, reached)
        before = self.clock.now_ms() - IDLE_MS
        for user_id in [user_id for user_id, held in self._held.items() if held[-1][1] < before]:
            if user_id not in self._moved:
                del self._held[user_id]

    async def forget_old(self) -> None:
        """To be called once a day."""
        await self.database.write(rows.forget, self.clock.now_ms() - KEPT_MS)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has got nothing yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        self._held.pop(user_id, None)
        self._moved.discard(user_id)
        await self.database.write(rows.forget_person, user_id)

"""When somebody is sent mail about what they missed.

    notified ──► in `first_delay_ms` ──► are they away? ──no──► when they will have been
                                            │ yes
                                  what is unread and untold ──► a letter to each of their addresses ──► written down
                                            └── of rooms that have to wait ──► when the first of them may be told of

What was told of is kept in the database, room by room: after a restart everybody is looked at once, and nobody is told
anything twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial

import structlog
from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from config.email import Email
from homeserver.clock import Clock
from homeserver.mail.letters import Letters
from homeserver.mail.post import NotNow, Post, Refused
from homeserver.push.kinds import EMAIL
from homeserver.push.missed import Missed, Misses, mapping
from homeserver.push.ports import News
from homeserver.push.pushers import Pushers
from homeserver.rooms.live import LiveRoom
from homeserver.tasks import Tasks
from storage import mail as rows
from storage.database import Database
from storage.pushers import Pusher

RETRY_MS = 60_000
LONGEST_RETRY_MS = 3_600_000

log = structlog.get_logger("homeserver.push")


async def never_here(user_id: str) -> int:
    """Until it is known who was here when, nobody was."""
    return 0


@define(eq=False)
class Digests:
    """A listener of the watch (`homeserver.push.ports.Listener`) and of accounts. One per process."""

    settings: Email
    pushers: Pushers
    misses: Misses
    post: Post
    letters: Letters | None
    """None: this server sends no mail."""
    database: Database
    clock: Clock
    tasks: Tasks
    last_seen: Callable[[str], Awaitable[int]] = never_here
    """When somebody was last here with any of their devices, in ms since 1970."""
    _timers: dict[str, IDelayedCall] = field(factory=dict, init=False)
    _busy: set[str] = field(factory=set, init=False)
    _failures: dict[str, int] = field(factory=dict, init=False)

    async def start(self) -> None:
        """After `pushers` has."""
        for user_id in sorted({pusher.user_id for pusher in self.pushers.every()}):
            if self._addresses(user_id):
                self._wake(user_id, self.settings.first_delay_ms)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def concerns(self, room: LiveRoom) -> Collection[str]:
        return () if self.letters is None else self.pushers.owners_in(room)

    def notified(self, user_id: str, news: News) -> None:
        delay_ms = self.settings.first_delay_ms
        timer = self._timers.get(user_id)
        # Rooms that have to wait do not hold up others.
        if timer is not None and timer.getTime() <= self.clock.timers.seconds() + delay_ms / 1000:
            return
        if self._addresses(user_id):
            self._wake(user_id, delay_ms)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has missed nothing (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        if (timer := self._timers.pop(user_id, None)) is not None:
            timer.cancel()
        await self.database.write(rows.forget_person, user_id)

    def _addresses(self, user_id: str) -> list[Pusher]:
        if self.letters is None:
            return []
        return [one for one in self.pushers.of(user_id) if one.activated and one.enabled and one.kind == EMAIL]

    def _wake(self, user_id: str, in_ms: int) -> None:
        timer = self._timers.get(user_id)
        if timer is not None:
            timer.cancel()
        self._timers[user_id] = self.clock.timers.callLater(in_ms / 1000, self._begin, user_id)

    def _begin(self, user_id: str) -> None:
        self._timers.pop(user_id, None)
        if user_id in self._busy:
            self._wake(user_id, RETRY_MS)  # a slow mail server: what is on its way is not told again meanwhile
        else:
            self.tasks.spawn("mail.digest", self._look_alone(user_id))

    async def _look_alone(self, user_id: str) -> None:
        self._busy.add(user_id)
        try:
            await self._look(user_id)
        finally:
            self._busy.discard(user_id)

    async def _look(self, user_id: str) -> None:
        pushers = self._addresses(user_id)
        if not pushers:
            return
        now_ms = self.clock.now_ms()
        still_here_ms = await self.last_seen(user_id) + self.settings.away_ms - now_ms
        if still_here_ms > 0:
            self._wake(user_id, still_here_ms)
            return
        missed = await self.misses.of(user_id, min(one.sent_upto for one in pushers), now_ms)
        if missed.rooms and not await self._send(user_id, pushers, missed, now_ms):
            failures = self._failures[user_id] = self._failures.get(user_id, 0) + 1
            self._wake(user_id, min(RETRY_MS << min(failures - 1, 10), LONGEST_RETRY_MS))
            return
        self._failures.pop(user_id, None)
        if missed.next_ms is not None:
            self._wake(user_id, missed.next_ms)

    async def _send(self, user_id: str, pushers: Collection[Pusher], missed: Missed, now_ms: int) -> bool:
        """False if it has to be tried again."""
        assert self.letters is not None
        count = len(missed.rooms) + missed.more_rooms
        subject = f"News in {missed.rooms[0].title}" if count == 1 else f"News in {count} rooms"
        has_failed = was_sent = False
        for pusher in pushers:
            assert pusher.token is not None
            values = {**mapping(missed), "user_id": user_id}
            about = f"digest {missed.newest}"
            letter = self.letters.write("mail_digest", pusher.pushkey, pusher.token, subject, now_ms, values, about)
            try:
                await self.post.send(letter)
                was_sent = True
            except Refused as error:
                log.info("an address is none", why=str(error))
                await self.pushers.remove(pusher.key)
            except NotNow as error:
                log.warning("mail cannot be sent yet", why=str(error))
                has_failed = True
        if was_sent:
            await self.database.write(partial(rows.mailed, rooms=missed.mailed), user_id)
        return was_sent or not has_failed

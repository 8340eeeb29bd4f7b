"""Passes notifications on to where pushers lead: one thing after the other for each, and again until it is heard.

    notified ──► waiting (the newest few) ──► carrier: Said ──► the next
                                                ▲      Gone ──► pusher gone
                                                │      Vain ──► the next, and a line in the log
                                                └───── Again: wait, twice as long each time

While the other end is away, only the newest are kept: a badge says how much there is. After a restart the newest that
was not said is, if it is not read yet.

Spec: https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

import msgspec
import orjson
import structlog
from attrs import define, field
from twisted.internet.defer import Deferred

from homeserver.clock import Clock
from homeserver.push.ledger import Ledger
from homeserver.push.listing import Notifications
from homeserver.push.naming import Naming
from homeserver.push.ports import Again, Carrier, Gone, Json, News, Outcome, Vain
from homeserver.push.pushers import Key, Pushers
from homeserver.records.deliveries import Deliveries
from homeserver.rooms.live import LiveRoom
from homeserver.tasks import Tasks
from storage.pushers import Pusher

MOST_WAITING = 8
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 3_600.0
MOST_ATTEMPTS = 24

NOT_FOR_ANYBODY = frozenset({"url", "endpoint", "auth"})
"""What of a pusher's data is between its client and us."""

log = structlog.get_logger("homeserver.push")


class _Line(msgspec.Struct, eq=False):
    """What waits for one pusher."""

    waiting: deque[News] = msgspec.field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    is_busy: bool = False


@define(eq=False)
class Delivery:
    """A listener of the watch (`homeserver.push.ports.Listener`). One per process."""

    pushers: Pushers
    carriers: Mapping[str, Carrier]
    """By the kind of pusher. Others are no matter of ours."""
    clock: Clock
    tasks: Tasks
    ledger: Ledger
    notifications: Notifications
    naming: Naming
    deliveries: Deliveries
    _lines: dict[Key, _Line] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.pushers.on_gone.append(self._forget)

    async def start(self) -> None:
        """Say what a restart left unsaid, the newest of it."""
        for pusher in self.pushers.every():
            page = await self.notifications.page(pusher.user_id, None, 1, False)
            for told in page.entries:
                if told.position > pusher.sent_upto and not told.is_read:
                    self._add(pusher, News(told.room_id, told.position, told.stored, told.actions))

    def concerns(self, room: LiveRoom) -> Collection[str]:
        return self.pushers.owners_in(room)

    def notified(self, user_id: str, news: News) -> None:
        for pusher in self.pushers.of(user_id):
            self._add(pusher, news)

    async def insist(self, key: Key, attempt: Callable[[Pusher], Coroutine[Deferred[Any], Any, Outcome]]) -> None:
        """Make attempts until one is not in vain for now, ever more seldom, as long as the pusher is there."""
        pause_s = FIRST_PAUSE_S
        for _ in range(MOST_ATTEMPTS):
            pusher = self.pushers.get(key)
            if pusher is None or not pusher.enabled:
                return
            match await attempt(pusher):
                case Gone():
                    await self.pushers.remove(key)
                    return
                case Vain(why):
                    log.warning("a notification cannot be passed on", app_id=pusher.app_id, why=why)
                    return
                case Again(why, after_s):
                    log.info("a notification cannot be passed on yet", app_id=pusher.app_id, why=why)
                    await self.pause(min(max(pause_s, after_s), LONGEST_PAUSE_S))
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                case _:
                    return

    def pause(self, seconds: float) -> Deferred[None]:
        def stop(waiter: Deferred[None]) -> None:
            if timer.active():
                timer.cancel()

        waiter: Deferred[None] = Deferred(stop)
        timer = self.clock.timers.callLater(seconds, waiter.callback, None)
        return waiter

    def _forget(self, key: Key) -> None:
        self._lines.pop(key, None)

    def _add(self, pusher: Pusher, news: News) -> None:
        if not pusher.enabled or not pusher.activated or pusher.kind not in self.carriers:
            return
        line = self._lines.setdefault(pusher.key, _Line())
        line.waiting.append(news)
        if not line.is_busy:
            line.is_busy = True
            self.tasks.spawn("push.deliver", self._work(pusher.key, line))

    async def _work(self, key: Key, line: _Line) -> None:
        try:
            await self.pause(0)  # off the way of whoever is about to be answered
            while line.waiting and self._lines.get(key) is line:
                news = line.waiting.popleft()
                await self.insist(key, lambda pusher, news=news: self._attempt(pusher, news))  # type: ignore[misc]
                if not line.waiting and self.pushers.get(key) is not None:
                    await self.pushers.sent(key, news.position)
                    self.deliveries.note(key[0], news.position)
        finally:
            line.is_busy = False

    async def _attempt(self, pusher: Pusher, news: News) -> Outcome:
        told = orjson.loads(pusher.told)
        return await self.carriers[told["kind"]].carry(pusher, told, await self._notification(pusher, told, news))

    async def _notification(self, pusher: Pusher, told: Json, news: News) -> Json:
        event, data = news.stored.event, dict(told["data"])
        unread = await self.ledger.badge(pusher.user_id)
        device: Json = {
            "app_id": pusher.app_id,
            "pushkey": pusher.pushkey,
            "pushkey_ts": pusher.set_ts // 1000,
            "data": {name: value for name, value in data.items() if name not in NOT_FOR_ANYBODY},
        }
        body: Json = {"event_id": event.event_id, "room_id": news.room_id, "devices": [device], "prio": "high"}
        if unread:
            body["counts"] = {"unread": unread}
        if data.get("format") == "event_id_only":
            return body
        tweaks = [one for one in orjson.loads(news.actions) if isinstance(one, dict)]
        device["tweaks"] = {one["set_tweak"]: one.get("value", True) for one in tweaks}
        body |= {"type": event.type, "sender": event.sender, "content": event.content}
        if event.state_key is not None:
            body["user_is_target"] = event.state_key == pusher.user_id
        names = await self.naming.of(news.room_id, news.stored)
        body["sender_display_name"] = names.sender or event.sender
        if names.room is not None:
            body["room_name"] = names.room
        if names.alias is not None:
            body["room_alias"] = names.alias
        return body

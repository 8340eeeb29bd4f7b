"""Passes notifications on to push gateways: one thing after the other for each pusher, and again until it is heard.

    notified ──► waiting (the newest few) ──► ask the gateway ──► 200: said, unless it rejects the key: pusher gone
                                                  ▲                 else: wait, twice as long each time
                                                  └─────────────────┘

While a gateway is away, only the newest are kept: a badge says how much there is. After a restart the newest that was
not said is, if it is not read yet.

Spec: https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any

import orjson
import structlog
from attrs import define, field
from twisted.internet.defer import Deferred

from federation.outbound.transport import BadAnswer, Unreachable
from federation.outbound.web import Web, WebRequest
from homeserver.clock import Clock
from homeserver.push.compiled import Verdict
from homeserver.push.ledger import Ledger
from homeserver.push.listing import Notifications
from homeserver.push.pushers import Key, Pushers
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import CANONICAL_ALIAS, NAME, LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from storage.ports import StoredEvent
from storage.pushers import Pusher

MOST_WAITING = 8
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 3_600.0
MOST_ATTEMPTS = 24
MOST_ANSWER_BYTES = 64 * 1024

log = structlog.get_logger("homeserver.push")


@define(eq=False)
class _Line:
    """What waits for one pusher."""

    waiting: deque[tuple[str, StoredEvent, bytes]] = field(factory=lambda: deque(maxlen=MOST_WAITING))
    """Room id, event, actions."""
    is_busy: bool = False


@define(eq=False)
class Delivery:
    """A listener of the watch (`homeserver.push.ports.Listener`). One per process."""

    pushers: Pushers
    web: Web
    clock: Clock
    tasks: Tasks
    ledger: Ledger
    notifications: Notifications
    rooms: Rooms
    events: EventCache
    _lines: dict[Key, _Line] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.pushers.on_gone.append(self._forget)

    async def start(self) -> None:
        """Say what a restart left unsaid, the newest of it."""
        for pusher in await self.pushers.start():
            page = await self.notifications.page(pusher.user_id, None, 1, False)
            for told in page.entries:
                if told.stored.position > pusher.sent_upto and not told.is_read:
                    self._add(pusher, told.room_id, told.stored, told.actions)

    def concerns(self, room: LiveRoom) -> Collection[str]:
        return self.pushers.owners_in(room)

    def notified(self, user_id: str, room: LiveRoom, stored: StoredEvent, verdict: Verdict) -> None:
        for pusher in self.pushers.of(user_id):
            self._add(pusher, room.room_id, stored, verdict.actions)

    def _forget(self, key: Key) -> None:
        self._lines.pop(key, None)

    def _add(self, pusher: Pusher, room_id: str, stored: StoredEvent, actions: bytes) -> None:
        if not pusher.enabled:
            return
        line = self._lines.setdefault(pusher.key, _Line())
        line.waiting.append((room_id, stored, actions))
        if not line.is_busy:
            line.is_busy = True
            self.tasks.spawn("push.deliver", self._work(pusher.key, line))

    async def _work(self, key: Key, line: _Line) -> None:
        try:
            await self._pause(0)  # off the way of whoever is about to be answered
            while line.waiting and self._lines.get(key) is line:
                room_id, stored, actions = line.waiting.popleft()
                await self._deliver(key, room_id, stored, actions)
                if not line.waiting and self.pushers.get(key) is not None:
                    await self.pushers.sent(key, stored.position)
        finally:
            line.is_busy = False

    async def _deliver(self, key: Key, room_id: str, stored: StoredEvent, actions: bytes) -> None:
        pause_s = FIRST_PAUSE_S
        for _ in range(MOST_ATTEMPTS):
            pusher = self.pushers.get(key)
            if pusher is None or not pusher.enabled:
                return
            told = orjson.loads(pusher.told)
            body = await self._body(pusher, told, room_id, stored, actions)
            try:
                answer = await self.web.fetch(
                    WebRequest(
                        told["data"]["url"],
                        "POST",
                        {"Content-Type": "application/json"},
                        orjson.dumps({"notification": body}),
                        max_bytes=MOST_ANSWER_BYTES,
                        max_redirects=0,
                        plain=self.pushers.allows_plain,
                    )
                )
            except Unreachable as error:
                if not error.retryable:
                    log.warning("a push gateway cannot be asked", app_id=pusher.app_id, why=str(error))
                    return
            except BadAnswer as error:
                log.info("a push gateway answers nonsense", app_id=pusher.app_id, why=str(error))
            else:
                if answer.status == 200:
                    if pusher.pushkey in _rejected(answer.body):
                        await self.pushers.remove(key)
                    return
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _body(
        self, pusher: Pusher, told: dict[str, Any], room_id: str, stored: StoredEvent, actions: bytes
    ) -> dict[str, Any]:
        event, data = stored.event, dict(told["data"])
        del data["url"]
        unread = await self.ledger.badge(pusher.user_id)
        device: dict[str, Any] = {
            "app_id": pusher.app_id,
            "pushkey": pusher.pushkey,
            "pushkey_ts": pusher.set_ts // 1000,
            "data": data,
        }
        body: dict[str, Any] = {"event_id": event.event_id, "room_id": room_id, "devices": [device], "prio": "high"}
        if unread:
            body["counts"] = {"unread": unread}
        if data.get("format") == "event_id_only":
            return body
        tweaks = [one for one in orjson.loads(actions) if isinstance(one, dict)]
        device["tweaks"] = {one["set_tweak"]: one.get("value", True) for one in tweaks}
        body |= {"type": event.type, "sender": event.sender, "content": event.content}
        body["sender_display_name"] = event.sender  # unless there is a name
        if event.state_key is not None:
            body["user_is_target"] = event.state_key == pusher.user_id
        room = await self.rooms.get(room_id)
        if room is not None:
            for name, key, member in (
                ("sender_display_name", ("m.room.member", event.sender), "displayname"),
                ("room_name", NAME, "name"),
                ("room_alias", CANONICAL_ALIAS, "alias"),
            ):
                ref = room.visible.state.get(key)
                piece = None if ref is None else await self.events.get(ref.nid)
                value = None if piece is None else piece.event.content.get(member)
                if isinstance(value, str) and value:
                    body[name] = value
        return body

    def _pause(self, seconds: float) -> Deferred[None]:
        def stop(waiter: Deferred[None]) -> None:
            if timer.active():
                timer.cancel()

        waiter: Deferred[None] = Deferred(stop)
        timer = self.clock.timers.callLater(seconds, waiter.callback, None)
        return waiter


def _rejected(body: bytes) -> Collection[str]:
    try:
        told = orjson.loads(body)
    except ValueError:
        return ()
    rejected = told.get("rejected") if isinstance(told, dict) else None
    return [one for one in rejected if isinstance(one, str)] if isinstance(rejected, list) else ()

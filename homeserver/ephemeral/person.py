"""One person's presence, put together from what each of the person's devices says. Pure: time is an argument.

                    activity, or a device says online
              ┌───────────────────────────────────────────┐
              ▼                                           │
    ┌─► online, currently active ──1 min──► online ──5 min──► unavailable
    │         │  without activity             │               ▲   │
    │         └────── every device says unavailable ──────────┘   │
    │ a device syncs                                              │ no device has synced for 30 s,
    └──────────────────────────── offline ◄───────────────────────┘ or all say offline (from any state)

A person may choose a mood, which holds whatever the devices say until another is chosen: away and busy as long as any
device is here, and invisible, which is offline to everyone else. `busy` may also be what a device says.

Spec: https://spec.matrix.org/v1.19/client-server-api/#presence
MSC3026: https://github.com/matrix-org/matrix-spec-proposals/pull/3026 (busy)
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from attrs import define, field

Wish = Literal["online", "unavailable", "offline", "busy"]
"""What a device says, and what others see."""
Mood = Literal["away", "busy", "invisible"]
ONLINE: Final = "online"
UNAVAILABLE: Final = "unavailable"
OFFLINE: Final = "offline"
BUSY: Final = "busy"
AWAY: Final = "away"
INVISIBLE: Final = "invisible"

ACTIVE_MS = 60_000
"""How long after its last activity a person counts as currently active."""
IDLE_MS = 5 * 60_000
"""How long without activity until an online person counts as away."""
GONE_MS = 30_000
"""How long after the end of a device's last /sync it counts as gone."""

NEVER = 1 << 62

_BEFORE = "\0before"
"""Stands for a person's devices of before the server was started anew."""


class _Device(msgspec.Struct, eq=False):
    wish: Wish
    until_ms: int
    """Gone from then on, unless it is heard of again."""
    is_said: bool = False
    """Whether the person said so apart from /sync."""


@define(eq=False)
class Person:
    """What is known of one person. `state`, `currently_active` and `status_msg` are what others may see."""

    user_id: str
    state: Wish = OFFLINE
    currently_active: bool = False
    status_msg: str | None = None
    last_active_ms: int = 0
    """0: never."""
    due_ms: int = NEVER
    """Nothing changes by itself before then."""
    mood: Mood | None = None
    has_said: bool = False
    """Whether `status_msg` is what the person said since the server was started."""
    has_chosen: bool = False
    """And `mood` what it chose."""
    _devices: dict[str, _Device] = field(factory=dict)

    def sync(self, device_id: str, wish: Wish | None, now_ms: int, timeout_ms: int) -> bool:
        """A device asks for news and will wait for up to `timeout_ms`. Answers whether others see a difference.

        `wish` None: it does not say how it wants to be seen. Then it counts as online, but is no sign of activity,
        and does not take back that somebody said `unavailable` on it. Nor does `offline` take back what was said: it is
        that a device does not want to be seen because it calls /sync.
        """
        device = self._devices.get(device_id)
        if wish == OFFLINE:
            return device is not None and not device.is_said and self._say(device_id, OFFLINE, now_ms, 0)
        until_ms = now_ms + timeout_ms + GONE_MS
        if device is not None and (wish is None or wish == device.wish):
            device.until_ms = until_ms
            if wish != ONLINE:
                return False
            if self.currently_active:
                self.last_active_ms = now_ms
                return False
        if wish == ONLINE or (wish is None and self.state == OFFLINE):
            self._touch(now_ms)
        return self._say(device_id, wish or ONLINE, now_ms, until_ms)

    def say(self, device_id: str, wish: Wish, status_msg: str | None, now_ms: int) -> bool:
        """The person sets the state and what to say with it. Answers whether others see a difference."""
        self._touch(now_ms)
        has_new_status = status_msg != self.status_msg and self.mood != INVISIBLE
        self.status_msg, self.has_said = status_msg, True
        device = self._devices.get(device_id)
        until_ms = max(now_ms + GONE_MS, device.until_ms if device is not None else 0)
        return self._say(device_id, wish, now_ms, until_ms, is_said=True) or has_new_status

    def choose(self, device_id: str, mood: Mood | None, now_ms: int) -> bool:
        """The person chooses a mood; None: to be seen as the devices say. Answers whether others see a difference."""
        self.mood, self.has_chosen = mood, True
        self._touch(now_ms)
        device = self._devices.get(device_id)
        until_ms = max(now_ms + GONE_MS, device.until_ms if device is not None else 0)
        return self._say(device_id, ONLINE, now_ms, until_ms)

    def act(self, now_ms: int) -> bool:
        """The person did something, such as sending a message: nobody who is here is away any more."""
        self._touch(now_ms)
        if self.currently_active or not self._devices:
            return False
        for device in self._devices.values():
            device.wish = device.wish if device.wish == BUSY else ONLINE
        return self.look(now_ms)

    def leave(self) -> bool:
        """The person has no account any more. Answers whether others see a difference."""
        self._devices.clear()
        self.status_msg = self.mood = None
        return self.look(0)

    def look(self, now_ms: int) -> bool:
        """See what time has done. Answers whether others see a difference."""
        for device_id in [name for name, device in self._devices.items() if device.until_ms <= now_ms]:
            del self._devices[device_id]
        idle_ms = now_ms - self.last_active_ms
        wishes = {device.wish for device in self._devices.values()}
        is_online = self.mood is None and BUSY not in wishes and idle_ms < IDLE_MS and ONLINE in wishes
        state: Wish = ONLINE if is_online else UNAVAILABLE
        if not self._devices or self.mood == INVISIBLE:
            state = OFFLINE
        elif self.mood == BUSY or (self.mood is None and BUSY in wishes):
            state = BUSY
        active = is_online and idle_ms < ACTIVE_MS
        differs = state != self.state or active is not self.currently_active
        self.state, self.currently_active = state, active
        self.due_ms = min((device.until_ms for device in self._devices.values()), default=NEVER)
        if is_online:
            self.due_ms = min(self.due_ms, self.last_active_ms + (ACTIVE_MS if active else IDLE_MS))
        return differs

    def was_here(self, state: Wish, until_ms: int) -> None:
        """Before the server was started anew, the person was in that state; expect a sign of life until then."""
        self.state = state
        self._devices[_BEFORE] = _Device(state if state in (ONLINE, BUSY) else UNAVAILABLE, until_ms)
        self.due_ms = until_ms

    def _touch(self, now_ms: int) -> None:
        """A sign of activity, which those who can't see the person must not see either."""
        if self.mood != INVISIBLE:
            self.last_active_ms = now_ms

    def _say(self, device_id: str, wish: Wish, now_ms: int, until_ms: int, *, is_said: bool = False) -> bool:
        self._devices.pop(_BEFORE, None)
        if wish == OFFLINE:
            self._devices.pop(device_id, None)
        else:
            self._devices[device_id] = _Device(wish, until_ms, is_said)
        return self.look(now_ms)

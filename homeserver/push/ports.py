"""What push wants of other parts of the house, and what it tells them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from federation.room.event import Event
from homeserver.rooms.live import LiveRoom
from storage.ports import StoredEvent
from storage.pushers import Pusher

Json = dict[str, Any]


class RoleMentions(Protocol):
    """Knows whom an event means by their roles."""

    def __call__(self, room: LiveRoom, event: Event) -> Collection[str]:
        """User ids. Must not wait and must not raise."""


class News(msgspec.Struct, frozen=True, gc=False):
    """Something that somebody is to be told of."""

    room_id: str
    position: int
    """Where it stands in the stream: an event from outside has no position of its own."""
    stored: StoredEvent
    actions: bytes
    """JSON list."""


class Said(msgspec.Struct, frozen=True):
    """It was passed on."""


class Gone(msgspec.Struct, frozen=True):
    """There is nobody any more at the other end: the pusher is to be forgotten."""


class Vain(msgspec.Struct, frozen=True):
    """It will not be taken, however often it is tried."""

    why: str


class Again(msgspec.Struct, frozen=True):
    """It may be taken later."""

    why: str
    after_s: float = 0.0
    """Not before."""


Outcome = Said | Gone | Vain | Again


class Carrier(Protocol):
    """Takes notifications to where pushers of one kind lead."""

    async def carry(self, pusher: Pusher, told: Json, notification: Json) -> Outcome:
        """One attempt. `told`: what the client said of the pusher; `notification`: as gateways get it, with one device.

        Spec: https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify
        """


class Listener(Protocol):
    """Told of what is to be passed on to somebody, in order: must not wait and must not raise."""

    def concerns(self, room: LiveRoom) -> Collection[str]:
        """Local people about whom it wants to know in this room."""

    def notified(self, user_id: str, news: News) -> None:
        """Somebody is to be told of something; whether they are among those or not."""

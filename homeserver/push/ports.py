"""What push wants of other parts of the house, and what it tells them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from federation.room.event import Event
from homeserver.push.compiled import Verdict
from homeserver.rooms.live import LiveRoom
from storage.ports import StoredEvent


class RoleMentions(Protocol):
    """Knows whom an event means by their roles."""

    def __call__(self, room: LiveRoom, event: Event) -> Collection[str]:
        """User ids. Must not wait and must not raise."""


class Listener(Protocol):
    """Told of what is to be passed on to somebody, in order: must not wait and must not raise."""

    def concerns(self, room: LiveRoom) -> Collection[str]:
        """Local people about whom it wants to know in this room."""

    def notified(self, user_id: str, room: LiveRoom, stored: StoredEvent, verdict: Verdict) -> None: ...


def no_roles(room: LiveRoom, event: Event) -> Collection[str]:
    """Nobody is meant by roles."""
    return ()

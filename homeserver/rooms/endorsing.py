"""What the ways into a room ask of its policy server, stated here and implemented in `homeserver.rooms.policy`.

A room without one, which is nearly every room, is not concerned: that costs one look into a dict.

Spec: https://spec.matrix.org/v1.19/server-server-api/#policy-servers
"""

from __future__ import annotations

from typing import Protocol

from federation.room.event import Event
from federation.room.policy import POLICY
from homeserver.rooms.live import LiveRoom


def may_have_policy(room: LiveRoom) -> bool:
    """Whether the room names a policy server, valid or not."""
    return POLICY in room.frame


class Endorser(Protocol):
    """Gets policy servers to sign. To be asked about rooms that may have one."""

    async def endorse(self, room: LiveRoom, event: Event) -> Event:
        """An event of ours with the signature that it needs, or as it is where it needs none. Raises MatrixError: the
        policy server's refusal, or that it can't be reached.
        """

    async def review(self, room: LiveRoom, event: Event) -> tuple[Event, str | None]:
        """A peer's event, perhaps with a signature that was asked for; and why it is not wanted, if it is not."""


class NoEndorser:
    """For a server that keeps to itself: nobody to ask, and nobody to ask for."""

    async def endorse(self, room: LiveRoom, event: Event) -> Event:
        return event

    async def review(self, room: LiveRoom, event: Event) -> tuple[Event, str | None]:
        return event, None

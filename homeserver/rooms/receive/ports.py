"""What receiving needs of the network, stated here and implemented over `federation/outbound/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from federation.room.event import Event
from federation.room.pdu import Pdu
from federation.room.versions import RoomVersion
from homeserver.rooms.live import LiveRoom


class StateIds(msgspec.Struct, frozen=True, gc=False):
    """A peer's word on the state before an event, by event id."""

    state: Sequence[str]
    auth_chain: Sequence[str]


class WholeState(msgspec.Struct, frozen=True, gc=False):
    """The same with the events themselves, as raw JSON."""

    state: Sequence[bytes]
    auth_chain: Sequence[bytes]


class Opinion(Protocol):
    """Has a say in what comes into some rooms from other servers, beside the rooms' own rules (`homeserver.guilds`)."""

    async def __call__(self, room: LiveRoom, event: Event) -> str | None:
        """Why an event is not wanted, so that it is soft-failed; None where there is nothing against it."""


class Peers(Protocol):
    """Asks other servers for parts of a room's graph. Raises `PeerError`; what comes back is not judged yet.

    Events are raw JSON, at most as many as asked for.
    """

    async def get_missing_events(
        self, server: str, room_id: str, *, earliest: Sequence[str], latest: Sequence[str], limit: int
    ) -> Sequence[bytes]: ...

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds: ...

    async def state(self, server: str, room_id: str, event_id: str) -> WholeState: ...

    async def event(self, server: str, event_id: str) -> bytes: ...

    async def backfill(self, server: str, room_id: str, *, earliest: Sequence[str], limit: int) -> Sequence[bytes]: ...


class Verifying(Protocol):
    """Checks the signatures of events that come piece by piece, beside their coming."""

    def add(self, pdus: Sequence[Pdu]) -> None:
        """Give one more piece."""

    async def faults(self) -> Sequence[Sequence[str | None]]:
        """For each piece, and each of its events, why it is not validly signed; None where it is."""


class Verifier(Protocol):
    """Checks the signatures that events need."""

    async def verify(self, version: RoomVersion, pdus: Sequence[Pdu]) -> Sequence[str | None]:
        """For each event why it is not validly signed; None where it is."""

    def begin(self, version: RoomVersion) -> Verifying:
        """The same for more than are there yet."""

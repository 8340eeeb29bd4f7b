"""The seats of those who are in a voice channel over the gateway, and how each is heard and seen.

    join ── membership in the state, and a delayed event that would take it away ──> seated
    seated ── the connection lives: the delayed event is put off, now and then
           └─ it died: nobody puts it off, so the membership goes; or the device is back before, and takes its seat

All of it is in memory but the membership and the delayed event, so a crash ends as a dead connection does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from attrs import define, field

from federation.service import service
from homeserver.gateway.voice.memberships import Memberships
from homeserver.http.route import Requester
from homeserver.rooms.live import LiveRoom


class Seat(msgspec.Struct, eq=False):
    """One device in one room."""

    who: Requester
    room_id: str
    delay_id: str
    """Of the delayed event that ends it."""
    muted: bool = False
    deafened: bool = False
    camera: bool = False
    screen: bool = False
    speaking: bool = False
    is_silenced: bool = False
    """A moderator muted it: it can't unmute itself."""
    is_deafened: bool = False

    def shown(self) -> dict[str, Any]:
        return {
            "muted": self.muted or self.is_silenced,
            "deafened": self.deafened or self.is_deafened,
            "camera": self.camera,
            "screen": self.screen,
            "speaking": self.speaking and not (self.muted or self.is_silenced),
        }


UNSEEN = {"muted": False, "deafened": False, "camera": False, "screen": False, "speaking": False}
"""What is known of somebody who came in with another client."""


@define(eq=False)
class Booth:
    """All seats, one for a device. One per process."""

    _seats: dict[tuple[str, str], Seat] = field(factory=dict, init=False)

    def seat(self, who: Requester) -> Seat | None:
        return self._seats.get((who.user_id, who.device_id))

    def take(self, seat: Seat) -> None:
        self._seats[seat.who.user_id, seat.who.device_id] = seat

    def leave(self, seat: Seat) -> None:
        if self._seats.get((seat.who.user_id, seat.who.device_id)) is seat:
            del self._seats[seat.who.user_id, seat.who.device_id]

    def find(self, user_id: str, device_id: str) -> Seat | None:
        return self._seats.get((user_id, device_id))

    def of_user(self, user_id: str) -> list[Seat]:
        return [seat for (owner, _), seat in self._seats.items() if owner == user_id]

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._seats.values()))


@service
class Roll:
    """Who is in a room's call, by whatever client, and how they are heard and seen."""

    memberships: Memberships
    booth: Booth = field(factory=Booth)

    async def of(self, room: LiveRoom) -> list[dict[str, Any]]:
        """As `voice.state` tells it."""
        found = []
        for one in await self.memberships.of(room):
            seat = self.booth.find(one.user_id, one.device_id)
            shown = UNSEEN if seat is None or seat.room_id != room.room_id else seat.shown()
            found.append({"user_id": one.user_id, "device_id": one.device_id, **shown})
        return found

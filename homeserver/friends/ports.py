"""What friends need of other servers."""

from __future__ import annotations

from typing import Protocol

from homeserver.friends.halves import State


class OtherServers(Protocol):
    """Tells a friend's server what can't be said in the room."""

    async def tell(self, room_id: str, user_id: str, other_id: str, state: State) -> None:
        """Must not raise: whether it was heard is not known."""


class StandAlone:
    """For a server that does not federate."""

    async def tell(self, room_id: str, user_id: str, other_id: str, state: State) -> None:
        return

"""Rooms and spaces that this server is not in: what others tell of them, and who may be shown it.

The port to other servers; `homeserver.queries.spaces` fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from federation.wire.spaces import SummarisedRoom
from homeserver.spaces.children import Child
from homeserver.spaces.local import LocalRooms


class ToldSpace(msgspec.Struct, frozen=True):
    """Another server's answer."""

    room: SummarisedRoom
    children: Sequence[Child]
    """What the room names, if it is a space."""
    summaries: Mapping[str, SummarisedRoom]
    """Those rooms below it of which the server knows, by id; not what they name in turn."""
    inaccessible: frozenset[str]
    """Of these it knows that nobody here may see them."""


class RemoteSpaces(Protocol):
    """Asks other servers."""

    async def ask(self, room_id: str, via: Sequence[str], suggested_only: bool) -> ToldSpace | None:
        """What the first of the servers that knows the room tells; None if none does, or none can be reached."""


class NoRemoteSpaces:
    """For a server that does not federate."""

    async def ask(self, room_id: str, via: Sequence[str], suggested_only: bool) -> ToldSpace | None:
        return None


async def may_be_shown(local: LocalRooms, room: SummarisedRoom, user_id: str, membership: str | None) -> bool:
    """Whether a user may be shown a room that another server tells this one of. `membership`: as it is known here."""
    if room.world_readable or membership in ("join", "invite"):
        return True
    if membership == "ban":
        return False
    # Without a word on it, anybody may join.
    if room.join_rule in (None, "public", "knock", "knock_restricted"):
        return True
    if room.join_rule != "restricted":
        return False
    return await local.joined_any(user_id, room.allowed_room_ids)


def summary_of(room: SummarisedRoom) -> dict[str, Any]:
    """As clients are shown it."""
    found: dict[str, Any] = msgspec.to_builtins(room)
    return found

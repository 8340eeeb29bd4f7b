"""An event, with what one must know of the rest of the room to say what it means to somebody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from federation.room.event import Event
from homeserver.guilds.steward import ON_BEHALF_OF


class Happening(msgspec.Struct, frozen=True, gc=False):
    """All that a family looks at."""

    event: Event
    before: Mapping[str, Any]
    """The content of the piece of state that it replaced; empty where there was none."""
    creator: str
    """The room's: a guild's steward, in rooms of a guild."""
    is_own: bool = False
    """It is the membership of the person who is told."""
    guild_id: str | None = None
    """The guild that the room is part of; the room's own id in the room of the guild."""
    is_lazy: bool = False
    """Members of the guild come into a channel only when they open it."""
    is_member: bool = False
    """The person who is told is in the guild."""
    is_channel: bool = False
    """The room is a channel that the guild has at present."""
    redacted: tuple[str, bool] | None = None
    """Of a redaction: the type of what it took away, and whether that was state."""

    in_call: Sequence[Mapping[str, Any]] | None = None
    """Who is in the room's call now, where it is a membership of that."""

    @property
    def membership(self) -> object:
        return self.event.content.get("membership")

    @property
    def was(self) -> object:
        """The membership before."""
        return self.before.get("membership", "leave")


class Told(msgspec.Struct, frozen=True, gc=False):
    """One thing to be said."""

    kind: str
    """`message.created`"""
    fields: bytes = b""
    """Further members of `data`, each with a comma in front; nothing in them depends on who is told."""
    room_id: str | None = None
    """Of what room it is told, where that is not the event's own."""
    channel_id: str | None = None
    """Told only to those who may view this channel of the guild."""
    names_room: bool = True
    """Whether `data` says the room: not where it is the guild's own."""

    @property
    def family(self) -> str:
        return self.kind.partition(".")[0]


def tell(
    kind: str, *, room_id: str | None = None, channel_id: str | None = None, names_room: bool = True, **fields: object
) -> Told:
    """`fields` that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    members = b"," + orjson.dumps(given)[1:-1] if given else b""
    return Told(kind, members, room_id, channel_id, names_room)


def step(noun: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """What became of a thing that an empty content takes away; None where it was not there and is not."""
    was_there = bool(before.keys() - {ON_BEHALF_OF})
    if now.keys() - {ON_BEHALF_OF}:
        return f"{noun}.updated" if was_there else f"{noun}.created"
    return f"{noun}.deleted" if was_there else None

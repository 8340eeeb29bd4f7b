"""What servers ask each other about people and rooms by name: the answers, in the shapes that they should have.

Spec: https://spec.matrix.org/v1.19/server-server-api/#querying-for-information
Spec: https://spec.matrix.org/v1.19/server-server-api/#published-room-directory
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

MAX_INTEGER = 2**53 - 1
MAX_TOKEN = 4096
"""Characters of a pagination token."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Token = Annotated[str, msgspec.Meta(max_length=MAX_TOKEN)]


class DirectoryAnswer(msgspec.Struct, frozen=True):
    """Answer to `query/directory`: what an alias stands for."""

    room_id: str
    servers: list[str] = []
    """Who may help to join."""


class ListedRoom(msgspec.Struct, frozen=True, omit_defaults=True):
    """A room of another server's directory. Whatever else stands there is left out."""

    room_id: str
    num_joined_members: Count
    world_readable: bool
    guest_can_join: bool
    join_rule: str | None = None
    name: str | None = None
    topic: str | None = None
    canonical_alias: str | None = None
    avatar_url: str | None = None
    room_type: str | None = None


class RoomsAnswer(msgspec.Struct, frozen=True):
    """Answer to `publicRooms`. The rooms are read one by one, so that one that is malformed takes no others along."""

    chunk: list[msgspec.Raw]
    next_batch: Token | None = None
    prev_batch: Token | None = None
    total_room_count_estimate: Count | None = None

    def rooms(self) -> Iterator[ListedRoom]:
        for raw in self.chunk:
            try:
                yield _read_room(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue


class RoomsFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rooms of a directory must match."""

    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class RoomsAsk(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `POST publicRooms`; without a filter also the query of the GET."""

    limit: int | None = None
    since: str | None = None
    filter: RoomsFilter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


_read_room = msgspec.json.Decoder(ListedRoom).decode

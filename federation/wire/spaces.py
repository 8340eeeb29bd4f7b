"""What servers tell each other of spaces, in the shapes that it should have.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from federation.wire.queries import Count, ListedRoom


class SpaceChild(msgspec.Struct, frozen=True):
    """A stripped `m.space.child`."""

    type: str
    state_key: str
    sender: str
    content: dict[str, Any]
    origin_server_ts: Count


class SummarisedRoom(ListedRoom, frozen=True, omit_defaults=True):
    """A room of another server's, as somebody outside may know it. Whatever else stands there is left out."""

    encryption: str | None = None
    room_version: str | None = None
    allowed_room_ids: Annotated[list[str], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list)


class _Children(msgspec.Struct, frozen=True):
    children_state: list[msgspec.Raw] = []


class HierarchyAnswer(msgspec.Struct, frozen=True):
    """Answer to `hierarchy`. Its parts are read one by one, so that one that is malformed takes no others along."""

    room: msgspec.Raw
    children: list[msgspec.Raw] = []
    inaccessible_children: list[str] = []

    def read_room(self) -> SummarisedRoom:
        """The room that was asked about. Raises what msgspec raises."""
        return _read_room(self.room)

    def read_children(self) -> Iterator[SummarisedRoom]:
        for raw in self.children:
            try:
                yield _read_room(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue

    def read_children_state(self) -> Iterator[SpaceChild]:
        for raw in _read_state(self.room):
            try:
                yield _read_child(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue


def _read_state(room: msgspec.Raw) -> Sequence[msgspec.Raw]:
    try:
        return _read_children(room).children_state
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


_read_room = msgspec.json.Decoder(SummarisedRoom).decode
_read_child = msgspec.json.Decoder(SpaceChild).decode
_read_children = msgspec.json.Decoder(_Children).decode

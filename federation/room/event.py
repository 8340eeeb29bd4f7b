"""A room event as servers exchange it, held as the bytes it was signed as and a few parsed fields.

Spec: https://spec.matrix.org/v1.19/rooms/ (the event format of each room version).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

StateKey = tuple[str, str]
"""The address of a piece of room state: (event type, state key)."""


class _ContentOnly(msgspec.Struct, gc=False):
    content: msgspec.Raw


class Event(msgspec.Struct, gc=False):
    """One event of a room. Treat it as frozen: the two cached fields are the only ones ever written.

    `raw` is the canonical JSON of the federation format, signatures and hashes included and `unsigned`
    left out: what is stored and what is sent to peers. `content` is parsed from it on first use.
    """

    event_id: str
    room_id: str
    type: str
    state_key: str | None
    sender: str
    origin_server_ts: int
    depth: int
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    redacts: str | None
    """The id that a redaction names, wherever its room version keeps it."""
    raw: bytes
    parsed_content: Mapping[str, Any] | None = None
    client_prefix: bytes | None = None
    """Cache of `homeserver.rooms.render`: the client format up to, not including, `unsigned` and `room_id`."""

    @property
    def content(self) -> Mapping[str, Any]:
        """The event's content. Never change it: it is shared by every reader."""
        content = self.parsed_content
        if content is None:
            content = self.parsed_content = orjson.loads(self.content_json)
        return content

    @property
    def content_json(self) -> bytes:
        """The content as canonical JSON, cut from `raw` without parsing it."""
        return bytes(_decode_content(self.raw).content)

    @property
    def is_state(self) -> bool:
        return self.state_key is not None

    def to_json(self) -> dict[str, Any]:
        """The whole federation format, parsed afresh: the caller may change what it gets."""
        parsed: dict[str, Any] = orjson.loads(self.raw)
        return parsed


_decode_content = msgspec.json.Decoder(_ContentOnly).decode

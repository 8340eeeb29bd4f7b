"""A room event as servers exchange it, held as the bytes it was signed as and a few parsed fields.

Spec: https://spec.matrix.org/v1.19/rooms/ (the event format of each room version).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from federation.room.canonical import compact
from federation.room.identifiers import InvalidIdentifier, parse_event_id
from federation.room.versions import RoomVersion

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
    """In room version 12 the create event's `raw` has no room id: this one is then made from the event id."""
    type: str
    state_key: str | None
    sender: str
    origin_server_ts: int
    depth: int
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    redacts: str | None
    """The id that a redaction names, wherever its room version keeps it. None also if that is no event id."""
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
        """The whole federation format, parsed afresh: the caller may change what it gets.

        By the standard library, slower than orjson but exact for the huge integers of old room versions.
        """
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed


_decode_content = msgspec.json.Decoder(_ContentOnly).decode


def event_from_fields(version: RoomVersion, event_id: str, fields: Mapping[str, Any], raw: bytes) -> Event:
    """Make an `Event` of the federation format, already checked; `raw` is `fields` as canonical JSON.

    The content of `fields` becomes the event's own: nobody may change it afterwards.
    """
    event_type = fields["type"]
    content = fields["content"]
    prev_events, auth_events = fields["prev_events"], fields["auth_events"]
    return Event(
        event_id=event_id,
        room_id=fields["room_id"] if "room_id" in fields else room_id_of_create(event_id),
        type=event_type,
        state_key=fields.get("state_key"),
        sender=fields["sender"],
        origin_server_ts=fields["origin_server_ts"],
        depth=fields["depth"],
        prev_events=tuple([pair[0] for pair in prev_events] if version.cites_with_hashes else prev_events),
        auth_events=tuple([pair[0] for pair in auth_events] if version.cites_with_hashes else auth_events),
        redacts=read_redacts(event_type, (content if version.redacts_in_content else fields).get("redacts")),
        raw=compact(raw),
        parsed_content=content,
    )


def room_id_of_create(event_id: str) -> str:
    """The id of the room that a create event of room version 12 founds: its own id with another sigil."""
    return "!" + event_id[1:]


def read_redacts(event_type: str, value: object) -> str | None:
    """The event id in a redaction's `redacts`, or None for other events and for what is no event id."""
    if event_type != "m.room.redaction":
        return None
    try:
        return parse_event_id(value)
    except InvalidIdentifier:
        return None

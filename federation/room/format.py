"""Whether a JSON object has the form of an event at all. Every event passes here, ours as well as a peer's.

    ValueError
    └── BadEvent            not an event of this room version: dropped, as if it had never come
        └── EventTooLarge   one of the limits on its size is exceeded

Spec: https://spec.matrix.org/v1.19/rooms/v12/#event-format-1 (and the same section of every other version)
and https://spec.matrix.org/v1.19/client-server-api/#size-limits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from federation.room.canonical import MAX_INTEGER
from federation.room.identifiers import (
    InvalidIdentifier,
    byte_length,
    is_room_hash,
    parse_event_id,
    parse_room_id,
    parse_server_name,
    parse_user_id,
    server_of,
)
from federation.room.versions import RoomVersion

MAX_EVENT_BYTES: Final = 65_536
"""Of the canonical JSON with signatures and without `unsigned`, which servers may change on the way."""

MAX_KEY_BYTES: Final = 255
"""Of `type` and `state_key`. Identifiers have the same limit by their own grammar."""

MAX_PREV_EVENTS: Final = 20
MAX_AUTH_EVENTS: Final = 10

_MAX_OLD_INTEGER = 2**63 - 1


class BadEvent(ValueError):
    """This is not an event of its room version. `reason` says why, for logs and for the person who sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EventTooLarge(BadEvent):
    """An event, its type or its state key is larger than the specification allows."""


def max_depth_of(version: RoomVersion) -> int:
    """The greatest `depth` an event may have; a room that has reached it stays there."""
    return MAX_INTEGER if version.strict_json else _MAX_OLD_INTEGER


def check_format(version: RoomVersion, fields: Mapping[str, Any], *, is_ours: bool = True) -> None:
    """Raise `BadEvent` unless the fields that the room version demands are there and of the right form.

    Looks at everything but `hashes` and `signatures`, which an event of our own gets last, and at the content only as
    far as the required signatures depend on it: more is for the auth rules to say. What is not ours may be too long
    by a little, where the room version lets it: see `is_oversized`.
    """
    try:
        _check_fields(version, fields, is_ours or version.strict_sizes)
    except InvalidIdentifier as error:
        raise BadEvent(str(error)) from None


def is_oversized(event_type: str, state_key: str | None) -> bool:
    """Whether a peer's event is over the limits in bytes, though not in characters: it is rejected."""
    return any(len(text.encode()) > MAX_KEY_BYTES for text in (event_type, state_key or ""))


def check_size(raw: bytes) -> None:
    """Raise `EventTooLarge` if the canonical JSON of an event has too many bytes."""
    if len(raw) > MAX_EVENT_BYTES:
        raise EventTooLarge(f"the event has {len(raw)} bytes, of at most {MAX_EVENT_BYTES}")


def check_seal(fields: Mapping[str, Any]) -> None:
    """Raise `BadEvent` unless `hashes` and `signatures` have the right form. What they say is not looked at."""
    hashes = fields.get("hashes")
    if not isinstance(hashes, dict) or not isinstance(hashes.get("sha256"), str):
        raise BadEvent("hashes has no sha256")
    signatures = fields.get("signatures")
    if not isinstance(signatures, dict) or not all(isinstance(by_key, dict) for by_key in signatures.values()):
        raise BadEvent("signatures is not an object of objects")


def _check_fields(version: RoomVersion, fields: Mapping[str, Any], in_bytes: bool) -> None:
    event_type = fields.get("type")
    _check_short_text("type", event_type, in_bytes)
    if "state_key" in fields:
        _check_short_text("state_key", fields["state_key"], in_bytes)
    parse_user_id(fields.get("sender"))
    content = fields.get("content")
    if not isinstance(content, dict):
        raise BadEvent("content is not an object")

    largest = max_depth_of(version)
    _check_integer("depth", fields.get("depth"), 0, largest)
    _check_integer("origin_server_ts", fields.get("origin_server_ts"), -largest, largest)
    _check_citations(version, "prev_events", fields.get("prev_events"), MAX_PREV_EVENTS)
    _check_citations(version, "auth_events", fields.get("auth_events"), MAX_AUTH_EVENTS)
    _check_room_id(version, fields)
    if version.cites_with_hashes:
        parse_server_name(server_of(parse_event_id(fields.get("event_id"))))
    if version.restricted and event_type == "m.room.member" and "join_authorised_via_users_server" in content:
        parse_user_id(content["join_authorised_via_users_server"])


def _check_room_id(version: RoomVersion, fields: Mapping[str, Any]) -> None:
    if version.room_id_is_hash:
        if fields["type"] == "m.room.create":
            if fields.get("state_key") != "":
                raise BadEvent("m.room.create has another state_key than the empty one")
            if "room_id" in fields:
                raise BadEvent("m.room.create has a room_id, though its own hash is the room id")
        elif not is_room_hash(parse_room_id(fields.get("room_id"))):
            raise BadEvent("room_id is not the hash of a create event")
    else:
        server_of(parse_room_id(fields.get("room_id")))


def _check_short_text(name: str, value: object, in_bytes: bool) -> None:
    if not isinstance(value, str):
        raise BadEvent(f"{name} is not a string")
    length = byte_length(value, name)  # which refuses what can't be encoded, too
    if (length if in_bytes else len(value)) > MAX_KEY_BYTES:
        raise EventTooLarge(f"{name} is longer than {MAX_KEY_BYTES} bytes")


def _check_integer(name: str, value: object, smallest: int, largest: int) -> None:
    # bool is an int to Python but not to JSON.
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadEvent(f"{name} is not an integer")
    if not smallest <= value <= largest:
        raise BadEvent(f"{name} is out of range")


def _check_citations(version: RoomVersion, name: str, value: object, most: int) -> None:
    if not isinstance(value, list | tuple):
        raise BadEvent(f"{name} is not an array")
    if len(value) > most:
        raise BadEvent(f"{name} has {len(value)} entries, of at most {most}")
    if not version.cites_with_hashes:
        for entry in value:
            parse_event_id(entry)
        return
    for entry in value:
        if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[1], dict):
            raise BadEvent(f"{name} has an entry that is not a pair of event id and hashes")
        parse_event_id(entry[0])

"""The short way from a peer's bytes to an event, for events of the form that nearly all have.

    bytes ──> one compiled decoder, which checks types as it goes ──> three times encoded: whole, hashed, signed
                │
                └─> anything unusual: None, and `read_pdu` goes the long way, which knows what is wrong

A quarter of the long way's time: a large room's state is thousands of events. What both ways give is the same, byte by
byte; a property test holds them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, Raw, UnsetType

from federation.room.canonical import MAX_DEPTH, MAX_INTEGER, BadJson, canonical_json, check_strict
from federation.room.event import Event, read_redacts
from federation.room.format import MAX_AUTH_EVENTS, MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_PREV_EVENTS
from federation.room.hashing import hashed_event_id
from federation.room.identifiers import (
    InvalidIdentifier,
    is_room_hash,
    parse_event_id,
    parse_room_id,
    parse_user_id,
    server_of,
)
from federation.room.pdu import Pdu, is_hash_of
from federation.room.redaction import redact_content
from federation.room.versions import RoomVersion

REMEMBERED = 500
"""Lists of cited events: most of a room's state cites the same few."""


class _Usual(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """In the order of canonical JSON."""

    auth_events: Annotated[tuple[str, ...], Meta(max_length=MAX_AUTH_EVENTS)]
    content: Raw
    depth: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
    hashes: dict[str, str] | UnsetType
    origin_server_ts: Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
    prev_events: Annotated[tuple[str, ...], Meta(max_length=MAX_PREV_EVENTS)]
    room_id: str
    sender: str
    signatures: dict[str, dict[str, str]] | UnsetType
    state_key: str | UnsetType = UNSET
    type: str
    unsigned: Any = UNSET


_decode = msgspec.json.Decoder(_Usual).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def read_usual(version: RoomVersion, data: bytes) -> Pdu | None:
    """`parse.read_pdu` for a usual event of a room version with strict JSON; None where it is not one."""
    try:
        fields = _decode(data)
        content = orjson.loads(bytes(fields.content))
        if not isinstance(content, dict) or data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            return None
        check_strict(content)
        auth_events = _known_good(fields.auth_events)
        _check(version, fields, content)
    except (msgspec.DecodeError, orjson.JSONDecodeError, BadJson, InvalidIdentifier, RecursionError, UnicodeError):
        return None
    hashes, signatures = fields.hashes, fields.signatures
    if not hashes or not signatures or "sha256" not in hashes:
        return None
    state_key = None if fields.state_key is UNSET else fields.state_key

    fields.unsigned = UNSET
    fields.content = Raw(canonical_json(content))
    raw = _encode(fields)
    if len(raw) > MAX_EVENT_BYTES:
        return None
    fields.signatures = fields.hashes = UNSET
    is_whole = is_hash_of(hashes["sha256"], _encode(fields))
    fields.hashes = hashes
    kept = redact_content(version, fields.type, content)
    if kept is not content:
        fields.content = Raw(canonical_json(kept))
    signed = _encode(fields)

    event = Event(
        hashed_event_id(version, sha256(signed).digest()),
        fields.room_id,
        fields.type,
        state_key,
        fields.sender,
        fields.origin_server_ts,
        fields.depth,
        fields.prev_events,
        auth_events,
        read_redacts(fields.type, content.get("redacts")) if version.redacts_in_content else None,
        raw,
        content,
    )
    return Pdu(event, signatures, signed, is_whole)


def _check(version: RoomVersion, fields: _Usual, content: dict[str, Any]) -> None:
    """What the decoder does not see. Raises `InvalidIdentifier`."""
    _check_key(fields.type)
    if fields.state_key is not UNSET:
        _check_key(fields.state_key)
    parse_user_id(fields.sender)
    if version.room_id_is_hash:
        if fields.type == "m.room.create" or not is_room_hash(fields.room_id):
            raise InvalidIdentifier("room id", "is not the usual one")
    else:
        server_of(parse_room_id(fields.room_id))
    _check_ids(fields.prev_events)
    if version.restricted and "join_authorised_via_users_server" in content and fields.type == "m.room.member":
        parse_user_id(content["join_authorised_via_users_server"])


def _check_key(text: str) -> None:
    if not text.isascii() or len(text) > MAX_KEY_BYTES:
        raise InvalidIdentifier("key", "is not a usual one")


def _check_ids(event_ids: Sequence[str]) -> None:
    for event_id in event_ids:
        parse_event_id(event_id)


@lru_cache(REMEMBERED)
def _known_good(event_ids: tuple[str, ...]) -> tuple[str, ...]:
    """The same, checked; and the very same for all that cite the same events."""
    _check_ids(event_ids)
    return event_ids

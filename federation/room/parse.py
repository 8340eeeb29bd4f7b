"""From bytes to events: `read_pdu` for what peers send, `load_event` for what we stored ourselves.

Errors are those of `federation.room.format`. The next steps with a parsed event are its signatures
(`federation.keys.signatures`), its hash (`Pdu.is_whole`, else `redaction.redact_event`), and the auth rules.

Spec: https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
import orjson

from federation.room.canonical import BadJson, canonical_event, canonical_json, check_depth, check_strict, parse_json
from federation.room.event import Event, event_from_fields, read_redacts, room_id_of_create
from federation.room.format import BadEvent, check_format, check_seal, check_size
from federation.room.hashing import hashed_event_id, signed_bytes
from federation.room.pdu import Pdu, is_hash_of
from federation.room.usual import read_usual
from federation.room.versions import EventIdFormat, RoomVersion


def read_pdu(version: RoomVersion, data: object) -> Pdu:
    """Check the form of an event that a peer sent, and give it with its id worked out. Raises `BadEvent`.

    `data` is JSON text in bytes, or an object parsed from it; for room versions before 6 that must be `parse_json`
    with `exact=True`, or huge integers would change. It is not modified, but the event shares its content.
    `unsigned` is dropped unread. Signatures are not verified here.
    """
    try:
        if isinstance(data, bytes):
            if version.strict_json and (usual := read_usual(version, data)) is not None:
                return usual
            data = parse_json(data, exact=not version.strict_json)
        if not isinstance(data, dict):
            raise BadEvent("an event must be an object")
        fields = dict(data)
        fields.pop("unsigned", None)
        if version.strict_json:
            check_strict(fields)
        else:
            check_depth(fields)
        check_format(version, fields, is_ours=False)
        check_seal(fields)
        raw = canonical_event(version, fields)
        check_size(raw)
        signed = signed_bytes(version, fields)
        if version.event_id_format is EventIdFormat.DOMAIN:
            event_id = str(fields["event_id"])
        else:
            event_id = hashed_event_id(version, sha256(signed).digest())
        event = event_from_fields(version, event_id, fields, raw)
        return Pdu(event, fields["signatures"], signed, _is_whole(version, event, fields))
    except BadJson as error:
        raise BadEvent(str(error)) from None


def parse_pdu(version: RoomVersion, data: object) -> Event:
    """`read_pdu` for whoever wants no more than the event."""
    return read_pdu(version, data).event


class _Stored(msgspec.Struct, gc=False):
    type: str
    sender: str
    origin_server_ts: int
    depth: int
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    room_id: str | None = None
    state_key: str | None = None
    redacts: Any = None


class _StoredRedaction(msgspec.Struct, gc=False):
    content: dict[str, Any]


class _Hashes(msgspec.Struct, gc=False):
    sha256: str


_USUAL = frozenset(
    {
        "auth_events",
        "content",
        "depth",
        "event_id",
        "origin",
        "origin_server_ts",
        "prev_events",
        "prev_state",
        "redacts",
        "room_id",
        "sender",
        "state_key",
        "type",
    }
)
"""Keys of an event that stand in JSON as they are."""

_decode_hashes = msgspec.json.Decoder(_Hashes).decode
_decode_stored = msgspec.json.Decoder(_Stored).decode
_decode_redaction = msgspec.json.Decoder(_StoredRedaction).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def load_event(version: RoomVersion, event_id: str, raw: bytes) -> Event:
    """Make an event again of its stored `raw`, which is trusted to be what `parse_pdu` or `build_event` made.

    Takes two or three microseconds: the content stays unparsed until somebody asks for it.
    """
    if not version.strict_json:
        return event_from_fields(version, event_id, parse_json(raw, exact=True), raw)
    stored = _decode_stored(raw)
    redacts = None
    if stored.type == "m.room.redaction":
        named = _decode_redaction(raw).content.get("redacts") if version.redacts_in_content else stored.redacts
        redacts = read_redacts(stored.type, named)
    return Event(
        event_id,
        stored.room_id or room_id_of_create(event_id),
        stored.type,
        stored.state_key,
        stored.sender,
        stored.origin_server_ts,
        stored.depth,
        stored.prev_events,
        stored.auth_events,
        redacts,
        raw,
    )


def content_hash_matches(event: Event) -> bool:
    """Whether the event is whole: its content hash is the one in `hashes`. If not, only its redacted form counts.

    The covered fields are cut from `raw` as they are, so no way of writing numbers can make a difference.
    """
    fields = _decode_fields(event.raw)
    claimed = _decode_hashes(fields.pop("hashes")).sha256
    fields.pop("signatures", None)
    if fields.keys() <= _USUAL:
        covered = b"{%b}" % b",".join([b'"%b":%b' % (name.encode(), value) for name, value in fields.items()])
    else:
        covered = canonical_json({name: orjson.Fragment(bytes(value)) for name, value in fields.items()})
    return is_hash_of(claimed, covered)


def _is_whole(version: RoomVersion, event: Event, fields: dict[str, Any]) -> bool:
    """`content_hash_matches` while the event's fields are at hand, which are used up."""
    if not version.strict_json:
        return content_hash_matches(event)
    claimed = fields.pop("hashes")["sha256"]
    del fields["signatures"]
    return is_hash_of(claimed, canonical_json(fields))

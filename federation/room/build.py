"""Making events of our own: composed, checked, hashed, named and signed in one go.

This is on the way of every message that a client sends, so the content is written to JSON once and every other byte
at most three times: for the content hash, for the signature, and for good. (The signature covers the same bytes as
the event id.) Signing takes most of the time.

Spec: https://spec.matrix.org/v1.19/server-server-api/#adding-hashes-and-signatures-to-outgoing-events
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson

from federation.room.canonical import BadJson, canonical_json, check_strict, compact
from federation.room.event import Event, room_id_of_create
from federation.room.format import BadEvent, check_format, check_size, max_depth_of
from federation.room.hashing import encode_base64, hashed_event_id
from federation.room.redaction import redact
from federation.room.signing import SigningKey
from federation.room.versions import RoomVersion

_OURS_TO_SET = {
    *("auth_events", "content", "depth", "event_id", "hashes", "origin_server_ts", "prev_events", "redacts"),
    *("room_id", "sender", "signatures", "state_key", "type", "unsigned"),
}


def build_event(
    version: RoomVersion,
    *,
    room_id: str | None,
    type: str,
    sender: str,
    content: dict[str, Any],
    prev_events: Sequence[str],
    auth_events: Sequence[str],
    depth: int,
    origin_server_ts: int,
    server_name: str,
    key: SigningKey,
    state_key: str | None = None,
    redacts: str | None = None,
    event_id: str | None = None,
    references: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Event:
    """Make an event, signed by `key` in the name of `server_name`. Raises `BadEvent` or `EventTooLarge`.

    - `room_id` is None for the create event of a room whose id is that event's hash.
    - `content` becomes the event's own: do not change it afterwards. It must be strict canonical JSON whatever the
      room version, as all that we make.
    - `redacts` goes wherever the room version keeps it.
    - `depth` beyond the room version's limit is set to the limit.
    - `event_id` and `references` (cited event id -> SHA-256 in unpadded Base64) are for room versions 1 and 2, whose
      ids are chosen by the sender and whose citations carry hashes.
    - `extra` are further top-level fields.
    """
    if redacts is not None and version.redacts_in_content:
        content = {**content, "redacts": redacts}
    fields: dict[str, Any] = {
        "auth_events": auth_events,
        "content": content,
        "depth": min(depth, max_depth_of(version)),
        "origin_server_ts": origin_server_ts,
        "prev_events": prev_events,
        "sender": sender,
        "type": type,
    }
    if room_id is not None:
        fields["room_id"] = room_id
    if state_key is not None:
        fields["state_key"] = state_key
    if redacts is not None and not version.redacts_in_content:
        fields["redacts"] = redacts
    if event_id is not None:
        fields["event_id"] = event_id
        if not version.cites_with_hashes:
            raise BadEvent("event_id cannot be chosen: it is a hash")
    if version.cites_with_hashes:
        fields["prev_events"] = _with_hashes(prev_events, references)
        fields["auth_events"] = _with_hashes(auth_events, references)
    if extra:
        _add_extra(fields, extra)
    check_format(version, fields)
    try:
        check_strict(content)
        raw, digest = _seal(version, fields, server_name, key)
    except BadJson as error:
        raise BadEvent(str(error)) from None

    named = event_id if event_id is not None else hashed_event_id(version, digest)
    return Event(
        named,
        room_id if room_id is not None else room_id_of_create(named),
        type,
        state_key,
        sender,
        origin_server_ts,
        fields["depth"],
        tuple(prev_events),
        tuple(auth_events),
        redacts,
        raw,
        content,
    )


def _seal(version: RoomVersion, fields: dict[str, Any], server_name: str, key: SigningKey) -> tuple[bytes, bytes]:
    """Hash and sign; give the whole event as canonical JSON, and its reference hash. Changes `fields`."""
    content = fields["content"]
    content_json = canonical_json(content)
    check_size(content_json)
    fields["content"] = orjson.Fragment(content_json)
    fields["hashes"] = {"sha256": encode_base64(sha256(canonical_json(fields)).digest())}
    essential = canonical_json(redact(version, {**fields, "content": content}))
    fields["signatures"] = {server_name: {key.key_id: encode_base64(key.sign(essential))}}
    raw = compact(canonical_json(fields))
    check_size(raw)
    return raw, sha256(essential).digest()


def _with_hashes(event_ids: Sequence[str], references: Mapping[str, str] | None) -> list[tuple[str, dict[str, str]]]:
    try:
        return [(event_id, {"sha256": (references or {})[event_id]}) for event_id in event_ids]
    except KeyError as error:
        raise BadEvent(f"no reference hash is given for {error.args[0]}") from None


def _add_extra(fields: dict[str, Any], extra: Mapping[str, Any]) -> None:
    if not extra.keys().isdisjoint(_OURS_TO_SET):
        raise BadEvent(f"{', '.join(sorted(extra.keys() & _OURS_TO_SET))} cannot be given as extra fields")
    try:
        check_strict(dict(extra))
    except BadJson as error:
        raise BadEvent(str(error)) from None
    fields.update(extra)

"""The two hashes of an event, and the event id that one of them gives.

The *content hash* covers everything and shows whether we hold the full event or a redacted copy. The *reference hash*
covers what survives redaction and names the event, so a redacted copy has the same name.

Spec: https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from federation.room.canonical import canonical_event
from federation.room.redaction import redact
from federation.room.versions import EventIdFormat, RoomVersion

_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")


def encode_base64(data: bytes) -> str:
    """Unpadded standard Base64, Matrix's usual dress for bytes."""
    return b2a_base64(data, newline=False).rstrip(b"=").decode()


def encode_urlsafe_base64(data: bytes) -> str:
    """Unpadded URL-safe Base64, as event ids have it."""
    return b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URLSAFE).decode()


def decode_base64(text: str) -> bytes:
    """Decode Base64 of either alphabet, padded or not. Raises `ValueError` for anything else."""
    unpadded = text.encode("ascii").rstrip(b"=").translate(_FROM_URLSAFE)
    return a2b_base64(unpadded + b"=" * (-len(unpadded) % 4), strict_mode=True)


def content_hash(version: RoomVersion, fields: Mapping[str, Any]) -> str:
    """The content hash, in unpadded Base64, of an event in the federation format, as `hashes.sha256` should hold it.

    `hashes`, `signatures` and `unsigned` may be there: they are not covered.
    """
    covered = {name: fields[name] for name in fields if name not in ("hashes", "signatures", "unsigned")}
    return encode_base64(sha256(canonical_event(version, covered)).digest())


def signed_bytes(version: RoomVersion, fields: Mapping[str, Any]) -> bytes:
    """What the signatures and the reference hash of an event both cover: its redacted form without signatures."""
    redacted = redact(version, fields)
    redacted.pop("signatures", None)
    return canonical_event(version, redacted)


def reference_hash(version: RoomVersion, fields: Mapping[str, Any]) -> bytes:
    """The SHA-256 that identifies an event; `fields` is its federation format, `hashes` already in it."""
    return sha256(signed_bytes(version, fields)).digest()


def event_id_of(version: RoomVersion, fields: Mapping[str, Any]) -> str:
    """The id of an event: its own field in room versions 1 and 2, made from its reference hash since."""
    if version.event_id_format is EventIdFormat.DOMAIN:
        return str(fields["event_id"])
    return hashed_event_id(version, reference_hash(version, fields))


def hashed_event_id(version: RoomVersion, digest: bytes) -> str:
    """The event id that a reference hash gives, in a room version whose ids are hashes."""
    if version.event_id_format is EventIdFormat.HASH:
        return "$" + encode_base64(digest)
    return "$" + encode_urlsafe_base64(digest)

"""An event as a peer sent it, once its form has been checked."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from federation.room.event import Event
from federation.room.hashing import decode_base64, encode_base64


class Pdu(msgspec.Struct, frozen=True, gc=False):
    """An event that a peer sent, with what is to be known of its signatures and its content hash.

    Not with its fields: of a large room's state they would take more memory than all the rest.
    """

    event: Event
    signatures: Mapping[str, Mapping[str, Any]]
    """By server and key id. What should be signatures may be anything."""
    signed: bytes
    """What they cover: `hashing.signed_bytes`."""
    is_whole: bool
    """Whether its content hash is the one in `hashes`. If not, only its redacted form counts."""


def is_hash_of(claimed: str, covered: bytes) -> bool:
    """Whether an event's content hash, in Base64 as it claims it, is that of what the hash covers."""
    digest = sha256(covered).digest()
    try:
        return claimed == encode_base64(digest) or decode_base64(claimed) == digest
    except ValueError:
        return False

"""Policy servers as rooms name them: whose signature an event should carry beside its sender's, and whether it does.

Spec: https://spec.matrix.org/v1.19/server-server-api/#policy-servers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from federation.room.canonical import canonical_event
from federation.room.event import Event, StateKey
from federation.room.hashing import decode_base64
from federation.room.parse import parse_pdu
from federation.room.signing import verify_event_signature
from federation.room.versions import RoomVersion

POLICY: StateKey = ("m.room.policy", "")
KEY_ID = "ed25519:policy_server"
"""What such a signature always stands under, whatever the key."""


class PolicyServer(msgspec.Struct, frozen=True):
    """The one that a room names. It counts only while it has somebody in the room."""

    via: str
    """Its server name."""
    key: bytes
    """Its public key; empty where what the room says is no key: then nothing carries a valid signature."""


def read_policy(content: Mapping[str, Any]) -> PolicyServer | None:
    """The policy server in an `m.room.policy` event; None where a field is missing, which means that there is none."""
    via, keys = content.get("via"), content.get("public_keys")
    key = keys.get("ed25519") if isinstance(keys, Mapping) else None
    if not isinstance(via, str) or not isinstance(key, str):
        return None
    try:
        decoded = decode_base64(key)
    except ValueError:
        decoded = b""
    return PolicyServer(via, decoded if len(decoded) == 32 else b"")


def is_exempt(event: Event) -> bool:
    """Whether an event is the room's choice of a policy server itself, which no policy server is asked about."""
    return (event.type, event.state_key) == POLICY


def is_endorsed(version: RoomVersion, event: Event, server: PolicyServer) -> bool:
    """Whether an event carries a valid signature of the policy server."""
    return bool(server.key) and verify_event_signature(version, event.to_json(), server.via, KEY_ID, server.key)


def with_endorsement(version: RoomVersion, event: Event, via: str, signature: str) -> Event:
    """The event with the policy server's signature among the others, those of the same server too.

    Raises `BadEvent` where the event becomes too large by that.
    """
    fields = event.to_json()
    signatures = {server: dict(by_key) for server, by_key in fields.get("signatures", {}).items()}
    signatures.setdefault(via, {})[KEY_ID] = signature
    return parse_pdu(version, canonical_event(version, {**fields, "signatures": signatures}))

"""Whether events are signed by the servers that must have signed them: what is needed, and the check itself.

The check is a pure function of an event and the keys, so it can run in any thread.

Spec: https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson
from attrs import frozen

from federation.keys.ports import KeyName
from federation.keys.response import ServerKey, is_key_id
from federation.room.canonical import BadJson
from federation.room.event import Event
from federation.room.hashing import signed_bytes
from federation.room.identifiers import InvalidIdentifier, ServerName
from federation.room.signing import signature_of, signatures_needed, verify_signature
from federation.room.versions import RoomVersion

MOST_TRIED = 4
"""Signatures of one server on one event that are looked at: servers sign with one key, or two while they change it."""


@frozen
class Genuine:
    """Everybody has signed who must have."""


@frozen
class Forged:
    """A signature that must be there is missing or wrong: the event is dropped."""

    server: str
    why: str


@frozen
class KeyMissing:
    """A signature may be right, but the key that made it could not be had: the event is dropped for now."""

    server: str
    why: str


SignatureVerdict = Genuine | Forged | KeyMissing
GENUINE = Genuine()


class _Signatures(msgspec.Struct, gc=False):
    signatures: dict[str, dict[str, Any]] = {}


_decode_signatures = msgspec.json.Decoder(_Signatures).decode


@frozen
class Claim:
    """What an event's signatures claim: for each server that must have signed, the ids of the keys it signed by."""

    event: Event
    keys: Mapping[ServerName, Sequence[str]]

    def wanted(self, version: RoomVersion) -> Mapping[KeyName, int]:
        """The keys that are needed to check it, each with the time at which it must have been valid."""
        minimum = self.event.origin_server_ts if version.enforce_key_validity else 0
        return {(server, key_id): minimum for server, key_ids in self.keys.items() for key_id in key_ids}


def read_claim(version: RoomVersion, event: Event) -> Claim | Forged:
    """Find out by which keys a parsed event claims to be signed."""
    try:
        needed = sorted(signatures_needed(version, event))
        signatures = _decode_signatures(event.raw).signatures
    except InvalidIdentifier as error:
        return Forged("", f"whose signature it needs cannot be told: {error}")
    except msgspec.DecodeError:
        return Forged("", "its signatures are malformed")
    keys = {server: [key_id for key_id in signatures.get(server, ()) if is_key_id(key_id)] for server in needed}
    for server, key_ids in keys.items():
        if not key_ids:
            return Forged(server, f"{server} has not signed it")
    return Claim(event, {server: key_ids[:MOST_TRIED] for server, key_ids in keys.items()})


def check_claim(version: RoomVersion, claim: Claim, keys: Mapping[KeyName, ServerKey]) -> SignatureVerdict:
    """Check an event's signatures by those of the wanted keys that could be had."""
    event = claim.event
    usable: dict[ServerName, list[ServerKey]] = {}
    for server, key_ids in claim.keys.items():
        found = [key for key_id in key_ids if (key := keys.get((server, key_id))) is not None]
        if not found:
            return KeyMissing(server, f"{server} has no key {', '.join(key_ids)} that this server could get")
        usable[server] = [key for key in found if _is_valid_for(version, key, event)]
        if not usable[server]:
            return KeyMissing(server, f"{server} is not known to have had {found[0].key_id} at the time of the event")
    fields = orjson.loads(event.raw) if version.strict_json else event.to_json()
    try:
        message = signed_bytes(version, fields)
    except BadJson as error:
        return Forged("", str(error))
    for server, candidates in usable.items():
        if not any(
            verify_signature(message, signature_of(fields, server, key.key_id), key.verify_key) for key in candidates
        ):
            return Forged(server, f"the signature of {server} is wrong")
    return GENUINE


def check_claims(
    version: RoomVersion, claims: Sequence[Claim], keys: Mapping[KeyName, ServerKey]
) -> list[SignatureVerdict]:
    """`check_claim` for several: what one thread is given."""
    return [check_claim(version, claim, keys) for claim in claims]


def _is_valid_for(version: RoomVersion, key: ServerKey, event: Event) -> bool:
    return not version.enforce_key_validity or event.origin_server_ts <= key.valid_until_ts

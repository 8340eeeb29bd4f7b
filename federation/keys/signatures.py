"""Whether events are signed by the servers that must have signed them: what is needed, and the check itself.

The check is a pure function of an event and the keys, so it can run in any thread.

Spec: https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from federation.keys.ports import KeyName
from federation.keys.response import ServerKey, is_key_id
from federation.room.event import Event
from federation.room.identifiers import InvalidIdentifier, ServerName
from federation.room.pdu import Pdu
from federation.room.signing import signatures_needed, verify_signature
from federation.room.versions import RoomVersion

MOST_TRIED = 4
"""Signatures of one server on one event that are looked at: servers sign with one key, or two while they change it."""


class Genuine(msgspec.Struct, frozen=True):
    """Everybody has signed who must have."""


class Forged(msgspec.Struct, frozen=True):
    """A signature that must be there is missing or wrong: the event is dropped."""

    server: str
    why: str


class KeyMissing(msgspec.Struct, frozen=True):
    """A signature may be right, but the key that made it could not be had: the event is dropped for now."""

    server: str
    why: str


SignatureVerdict = Genuine | Forged | KeyMissing
GENUINE = Genuine()


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What an event's signatures claim: for each server that must have signed, the ids of the keys it signed by."""

    pdu: Pdu
    keys: Mapping[ServerName, Sequence[str]]


def read_claim(version: RoomVersion, pdu: Pdu) -> Claim | Forged:
    """Find out by which keys an event claims to be signed."""
    try:
        needed = signatures_needed(version, pdu.event)
    except InvalidIdentifier as error:
        return Forged("", f"whose signature it needs cannot be told: {error}")
    keys: dict[ServerName, Sequence[str]] = {}
    for server in sorted(needed):
        key_ids = [key_id for key_id in pdu.signatures.get(server, ()) if is_key_id(key_id)]
        if not key_ids:
            return Forged(server, f"{server} has not signed it")
        keys[server] = key_ids[:MOST_TRIED]
    return Claim(pdu, keys)


def readable(claims: Iterable[Claim | Forged]) -> list[Claim]:
    """Those whose signatures can be looked at."""
    return [claim for claim in claims if isinstance(claim, Claim)]


def wanted_keys(version: RoomVersion, claims: Iterable[Claim]) -> dict[KeyName, int]:
    """The keys that are needed to check them, each with the time at which it must have been valid."""
    wanted: dict[KeyName, int] = {}
    for claim in claims:
        minimum = claim.pdu.event.origin_server_ts if version.enforce_key_validity else 0
        for server, key_ids in claim.keys.items():
            for key_id in key_ids:
                name = server, key_id
                if minimum >= wanted.get(name, 0):
                    wanted[name] = minimum
    return wanted


def check_claim(version: RoomVersion, claim: Claim, keys: Mapping[KeyName, ServerKey]) -> SignatureVerdict:
    """Check an event's signatures by those of the wanted keys that could be had."""
    pdu = claim.pdu
    usable: dict[ServerName, list[ServerKey]] = {}
    for server, key_ids in claim.keys.items():
        found = [key for key_id in key_ids if (key := keys.get((server, key_id))) is not None]
        if not found:
            return KeyMissing(server, f"{server} has no key {', '.join(key_ids)} that this server could get")
        usable[server] = [key for key in found if _is_valid_for(version, key, pdu.event)]
        if not usable[server]:
            return KeyMissing(server, f"{server} is not known to have had {found[0].key_id} at the time of the event")
    for server, candidates in usable.items():
        if not any(
            verify_signature(pdu.signed, pdu.signatures[server][key.key_id], key.verify_key) for key in candidates
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

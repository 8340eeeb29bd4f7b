"""Signing JSON and events with ed25519, and checking such signatures.

    ValueError
    └── BadSigningKey    a line of a key file cannot be read

Spec: https://spec.matrix.org/v1.19/appendices/#signing-json
and https://spec.matrix.org/v1.19/server-server-api/#signing-events
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen
from nacl.bindings import (
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_open,
    crypto_sign_seed_keypair,
    crypto_sign_SEEDBYTES,
    randombytes,
)
from nacl.exceptions import CryptoError

from federation.room.canonical import BadJson, canonical_json_loose
from federation.room.event import Event
from federation.room.hashing import decode_base64, encode_base64, signed_bytes
from federation.room.identifiers import ServerName, server_of
from federation.room.versions import RoomVersion

_ALGORITHM = "ed25519"
_KEY_VERSION = re.compile(r"[A-Za-z0-9_]+")


class BadSigningKey(ValueError):
    """A signing key cannot be read. The message names the line and the reason, never the key."""


@frozen
class SigningKey:
    """One of this server's ed25519 keys. Neither `repr` nor any error shows its secret."""

    key_id: str
    """As it stands in `signatures`: `ed25519:` and the key's version."""

    verify_key: bytes
    """The public half, 32 bytes."""

    _secret: bytes = field(repr=False)
    """libsodium's form: the 32 bytes of the seed, then the public half."""

    @classmethod
    def generate(cls, version: str) -> Self:
        """A new random key, its version of the characters `A-Z a-z 0-9 _`."""
        return cls.from_seed(version, randombytes(crypto_sign_SEEDBYTES))

    @classmethod
    def from_seed(cls, version: str, seed: bytes) -> Self:
        """The key that a seed of 32 bytes gives. Raises `BadSigningKey`."""
        if not _KEY_VERSION.fullmatch(version):
            raise BadSigningKey("a key's version may only hold the characters A-Z, a-z, 0-9 and _")
        if len(seed) != crypto_sign_SEEDBYTES:
            raise BadSigningKey(f"a key's seed must have {crypto_sign_SEEDBYTES} bytes")
        public, secret = crypto_sign_seed_keypair(seed)
        return cls(f"{_ALGORITHM}:{version}", public, secret)

    @property
    def version(self) -> str:
        return self.key_id.partition(":")[2]

    @property
    def seed(self) -> bytes:
        """The secret itself, 32 bytes: for writing it to the key file, and nothing else."""
        return self._secret[:crypto_sign_SEEDBYTES]

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return crypto_sign(message, self._secret)[:crypto_sign_BYTES]


def read_signing_keys(text: str) -> list[SigningKey]:
    """Read a key file: a line `ed25519 VERSION SEED` for each key, the seed in Base64, as signedjson writes it.

    Empty lines are skipped. Raises `BadSigningKey` naming the line.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or words[0] != _ALGORITHM:
            raise BadSigningKey(f"line {number}: expected '{_ALGORITHM} VERSION SEED'")
        try:
            seed = decode_base64(words[2])
        except ValueError:
            raise BadSigningKey(f"line {number}: the seed is not Base64") from None
        try:
            keys.append(SigningKey.from_seed(words[1], seed))
        except BadSigningKey as error:
            raise BadSigningKey(f"line {number}: {error}") from None
    return keys


def write_signing_key(key: SigningKey) -> str:
    """The line, with its end, that `read_signing_keys` reads the key back from. It holds the secret."""
    return f"{_ALGORITHM} {key.version} {encode_base64(key.seed)}\n"


def verify_signature(message: bytes, signature: object, verify_key: bytes) -> bool:
    """Whether `signature`, in Base64 as JSON holds it, is one of `message` by the owner of `verify_key`."""
    if not isinstance(signature, str):
        return False
    try:
        signature_bytes = decode_base64(signature)
        if len(signature_bytes) != crypto_sign_BYTES:
            return False
        crypto_sign_open(signature_bytes + message, verify_key)
    except (ValueError, CryptoError):
        return False
    return True


def sign_json(value: Mapping[str, Any], server_name: str, key: SigningKey) -> dict[str, Any]:
    """A copy of a JSON object with our signature added; others' signatures and `unsigned` stay as they are.

    Raises `BadJson` if the object cannot be written as canonical JSON.
    """
    return _with_signature(value, server_name, key, _signed_json_bytes(value))


def verify_signed_json(value: Mapping[str, Any], server_name: str, key_id: str, verify_key: bytes) -> bool:
    """Whether the object carries a valid signature of this server by this key."""
    try:
        message = _signed_json_bytes(value)
    except BadJson:
        return False
    return verify_signature(message, signature_of(value, server_name, key_id), verify_key)


def sign_event(version: RoomVersion, fields: Mapping[str, Any], server_name: str, key: SigningKey) -> dict[str, Any]:
    """A copy of an event in the federation format with our signature added. `hashes` must be in it already."""
    return _with_signature(fields, server_name, key, signed_bytes(version, fields))


def verify_event_signature(
    version: RoomVersion, fields: Mapping[str, Any], server_name: str, key_id: str, verify_key: bytes
) -> bool:
    """Whether an event, whole or redacted, carries a valid signature of this server by this key.

    Whether the key was valid at the event's `origin_server_ts` is the caller's to ask.
    """
    try:
        message = signed_bytes(version, fields)
    except BadJson:
        return False
    return verify_signature(message, signature_of(fields, server_name, key_id), verify_key)


def signature_of(value: Mapping[str, Any], server_name: str, key_id: str) -> object:
    """What stands as signature of this server by this key: a string if all is well, or None."""
    signatures = value.get("signatures")
    by_server = signatures.get(server_name) if isinstance(signatures, dict) else None
    return by_server.get(key_id) if isinstance(by_server, dict) else None


def signatures_needed(version: RoomVersion, event: Event) -> set[ServerName]:
    """The servers that must have signed a parsed event, or it is dropped.

    That is the sender's server, unless the event is an invite that accepts a third-party invite (any server may send
    it; the auth rules check its token). In room versions 1 and 2 also the server in the event id, and since
    version 8 the one that vouches for the join.
    Spec: https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events
    """
    is_member = event.type == "m.room.member"
    if not is_member and not version.cites_with_hashes:
        return {server_of(event.sender)}
    needed: set[ServerName] = set()
    if not (is_member and event.content.get("membership") == "invite" and "third_party_invite" in event.content):
        needed.add(server_of(event.sender))
    if version.cites_with_hashes:
        needed.add(server_of(event.event_id))
    if version.restricted and is_member and "join_authorised_via_users_server" in event.content:
        needed.add(server_of(event.content["join_authorised_via_users_server"]))
    return needed


def _signed_json_bytes(value: Mapping[str, Any]) -> bytes:
    return canonical_json_loose({name: value[name] for name in value if name not in ("signatures", "unsigned")})


def _with_signature(value: Mapping[str, Any], server_name: str, key: SigningKey, message: bytes) -> dict[str, Any]:
    signatures = {server: dict(by_key) for server, by_key in value.get("signatures", {}).items()}
    signatures.setdefault(server_name, {})[key.key_id] = encode_base64(key.sign(message))
    return {**value, "signatures": signatures}

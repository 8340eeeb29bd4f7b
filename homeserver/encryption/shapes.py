"""What keys must look like before they are kept: parsed once at the door, with limits on how many and how large.

Whether a device's own signatures are good is for its peers to judge; what the server acts upon, it checks itself
(`homeserver.encryption.signing`).

Spec: https://spec.matrix.org/v1.19/client-server-api/#key-distribution
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from federation.room.canonical import BadJson as NotCanonical
from federation.room.canonical import canonical_json, check_strict
from federation.room.hashing import decode_base64
from homeserver.accounts.sessions import MAX_DEVICE_ID
from homeserver.errors import BadJson, InvalidParam, MatrixError
from storage.device_keys import CrossSigningKey
from storage.one_time_keys import PublicKey

T = TypeVar("T")

MAX_DEVICE_KEYS_BYTES = 16 * 1024
MAX_KEY_BYTES = 8 * 1024
"""Of a one-time, fallback or cross-signing key."""
MAX_NAME_BYTES = 255
MAX_DEPTH = 10
ED25519 = "ed25519"
ED25519_BYTES = 32

Signatures = dict[str, dict[str, str]]
"""User id → key id → signature."""


class _DeviceKeys(msgspec.Struct, frozen=True):
    user_id: str
    device_id: str
    algorithms: list[str]
    keys: dict[str, str]
    # COMPAT Complement: it uploads keys without any, as older clients could.
    signatures: Signatures = {}


class _KeyObject(msgspec.Struct, frozen=True):
    key: str
    signatures: Signatures = {}
    fallback: bool = False


class _CrossSigningKey(msgspec.Struct, frozen=True):
    user_id: str
    usage: list[str]
    keys: dict[str, str]
    signatures: Signatures = {}


def check_device_keys(value: Mapping[str, Any], user_id: str, device_id: str) -> bytes:
    """A device's identity keys as they are kept. Raises BadJson, InvalidParam (they are another's) or M_TOO_LARGE."""
    keys = _shaped("device_keys", value, _DeviceKeys)
    if keys.user_id != user_id:
        raise InvalidParam("`device_keys.user_id` is not you")
    if keys.device_id != device_id:
        raise InvalidParam("`device_keys.device_id` is not your device")
    return _kept("device_keys", {name: one for name, one in value.items() if name != "unsigned"}, MAX_DEVICE_KEYS_BYTES)


def check_public_keys(where: str, values: Mapping[str, Any], most: int) -> list[PublicKey]:
    """One-time or fallback keys by their full names; `where` is the member of the body that they stand in.

    Raises BadJson naming the key, or M_TOO_LARGE.
    """
    if len(values) > most:
        raise InvalidParam(f"`{where}` holds more than {most} keys")
    found = []
    for name, value in values.items():
        algorithm, colon, key_id = name.partition(":")
        if not (algorithm and colon and key_id and is_name(name)):
            raise BadJson(f"`{where}`: {name[:MAX_NAME_BYTES]!r} is not the name of a key")
        if not isinstance(value, str):
            _shaped(f"{where}.{name}", value, _KeyObject)
        found.append(PublicKey(algorithm, key_id, _kept(f"{where}.{name}", value, MAX_KEY_BYTES)))
    return found


def check_cross_signing_key(where: str, value: Mapping[str, Any], user_id: str, usage: str) -> CrossSigningKey:
    """A cross-signing key for one use. Whether it is signed as it should be is not judged here.

    Raises BadJson, InvalidParam or M_TOO_LARGE.
    """
    key = _shaped(where, value, _CrossSigningKey)
    if key.user_id != user_id:
        raise InvalidParam(f"`{where}.user_id` is not the owner of the key")
    if usage not in key.usage:
        raise InvalidParam(f"`{where}.usage` does not say {usage}")
    if len(key.keys) != 1:
        raise InvalidParam(f"`{where}.keys` must hold one key")
    ((name, public_key),) = key.keys.items()
    if name != f"{ED25519}:{public_key}" or verify_key(public_key) is None:
        raise InvalidParam(f"`{where}.keys` must hold an ed25519 key under its own name")
    kept = {name: one for name, one in value.items() if name != "unsigned"}
    return CrossSigningKey(user_id, usage, public_key, _kept(where, kept, MAX_KEY_BYTES))


def verify_key(public_key: object) -> bytes | None:
    """The 32 bytes of an ed25519 key in unpadded Base64; None for what is none."""
    if not isinstance(public_key, str):
        return None
    try:
        key = decode_base64(public_key)
    except ValueError:
        return None
    return key if len(key) == ED25519_BYTES else None


def is_name(text: str) -> bool:
    """Whether something may be the id of a device, key or session."""
    return 0 < len(text.encode()) <= max(MAX_NAME_BYTES, MAX_DEVICE_ID) and "\0" not in text


def _shaped(where: str, value: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BadJson(f"`{where}`: {error}") from None


def _kept(where: str, value: object, max_bytes: int) -> bytes:
    """Canonical JSON: it is passed to other servers as it is."""
    try:
        check_strict(value, MAX_DEPTH)
        json = canonical_json(value)
    except NotCanonical as error:
        raise BadJson(f"`{where}`: {error}") from None
    if len(json) > max_bytes:
        raise MatrixError(413, "M_TOO_LARGE", f"`{where}` is larger than {max_bytes} bytes")
    return json

"""A server's own word on its keys: judged before anything in it is believed.

    ValueError
    └── BadKeyResponse     it is not one, or not by the server that it speaks for; the message says why

Spec: https://spec.matrix.org/v1.19/server-server-api/#publishing-keys
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from federation.room.canonical import MAX_INTEGER, BadJson, canonical_json_loose
from federation.room.hashing import decode_base64
from federation.room.signing import signature_of, verify_signature

MAX_RESPONSE = 64 * 1024
"""Bytes of one server's response."""
MAX_KEYS = 100
"""Keys of one response, old ones included. Some servers have made a new key at every start for years."""
MAX_KEY_ID = 128
REMEMBERED = 2_000
"""Key ids whose form was looked at: those of many servers are alike."""
KEY_BYTES = 32
ALGORITHM = "ed25519:"
MOST_VALID_MS = 7 * 24 * 3_600_000
"""However long a response says that it is valid, its keys are asked for anew after a week: a thief of a key could
make it valid for ever."""


class BadKeyResponse(ValueError):
    """A key response that cannot be believed."""


class ServerKey(msgspec.Struct, frozen=True):
    """One key of one server, as far as this server knows."""

    server_name: str
    key_id: str
    verify_key: bytes
    """32 bytes of ed25519."""
    valid_until_ts: int
    """Until when its signatures count, in ms since 1970: for a key that is out of use, when that began."""


class KeyResponse(msgspec.Struct, frozen=True):
    """A response that its server has signed."""

    server_name: str
    valid_until_ts: int
    """When it should be asked for again; already not more than a week after `fetched_ts`."""
    fetched_ts: int
    keys: tuple[ServerKey, ...]
    """Keys in use and old ones; each id once."""
    body: bytes
    """As it came, but as canonical JSON: for handing it on."""


def read_key_response(value: object, server_name: str, now_ms: int) -> KeyResponse:
    """Judge the response of `server_name`, parsed by `parse_json(exact=True)`. Raises `BadKeyResponse`.

    It must carry a valid signature by one of the keys that it says are in use. What it does not say right of a
    single key (an algorithm unknown here, wrong Base64) costs only that key.
    """
    if not isinstance(value, dict):
        raise BadKeyResponse("it is not an object")
    if value.get("server_name") != server_name:
        raise BadKeyResponse(f"it is of {_shown(value.get('server_name'))} and not of {server_name}")
    valid_until_ts = value.get("valid_until_ts")
    if type(valid_until_ts) is not int or not 0 <= valid_until_ts <= MAX_INTEGER:
        raise BadKeyResponse("valid_until_ts is not a time")
    valid_until_ts = min(valid_until_ts, now_ms + MOST_VALID_MS)
    current = {
        key_id: ServerKey(server_name, key_id, key, valid_until_ts)
        for key_id, _, key in _keys(value.get("verify_keys"))
    }
    old = {
        key_id: ServerKey(server_name, key_id, key, expired_ts)
        for key_id, entry, key in _keys(value.get("old_verify_keys"))
        if type(expired_ts := entry.get("expired_ts")) is int and 0 <= expired_ts <= MAX_INTEGER
    }
    if len(current) + len(old) > MAX_KEYS:
        raise BadKeyResponse(f"it has more than {MAX_KEYS} keys")
    try:
        body = canonical_json_loose(value)
        _check_signatures(value, server_name, current)
    except BadJson as error:
        raise BadKeyResponse(str(error)) from None
    # An id in both lists is one that its server has given up.
    return KeyResponse(server_name, valid_until_ts, now_ms, tuple({**current, **old}.values()), body)


def signed_by(value: Mapping[str, Any], server_name: str) -> list[str]:
    """The ids of the ed25519 keys by which a server claims to have signed an object; nothing is verified."""
    signatures = value.get("signatures")
    by_server = signatures.get(server_name) if isinstance(signatures, dict) else None
    if not isinstance(by_server, dict):
        return []
    return [key_id for key_id in by_server if is_key_id(key_id)]


def is_key_id(text: object) -> bool:
    """Whether this is the id of a key of the one algorithm there is.

    COMPAT servers whose key versions hold more than the letters, digits and underscores that they should.
    """
    return isinstance(text, str) and len(ALGORITHM) < len(text) <= MAX_KEY_ID and _is_key_id(text)


@lru_cache(REMEMBERED)
def _is_key_id(text: str) -> bool:
    return text.startswith(ALGORITHM) and text.isascii() and text.isprintable()


def _keys(entries: object) -> Iterator[tuple[str, Mapping[str, Any], bytes]]:
    if not isinstance(entries, dict):
        return
    for key_id, entry in entries.items():
        if is_key_id(key_id) and isinstance(entry, dict):
            key = _decode_key(entry.get("key"))
            if key is not None:
                yield key_id, entry, key


def _decode_key(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        key = decode_base64(text)
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _check_signatures(value: Mapping[str, Any], server_name: str, current: Mapping[str, ServerKey]) -> None:
    message = canonical_json_loose({name: value[name] for name in value if name not in ("signatures", "unsigned")})
    signing = [key for key_id in signed_by(value, server_name) if (key := current.get(key_id)) is not None]
    if not signing:
        raise BadKeyResponse("it is not signed by a key of its own")
    for key in signing:
        if not verify_signature(message, signature_of(value, server_name, key.key_id), key.verify_key):
            raise BadKeyResponse(f"its signature by {key.key_id} is wrong")


def _shown(value: object) -> str:
    return value[:100] if isinstance(value, str) else "nobody"

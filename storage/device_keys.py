"""Public keys of this server's devices and people: what they uploaded, and what they signed.

device_keys        user_id  device_id  json
                   @a:x     PHONE      {"algorithms":[…],"device_id":"PHONE","keys":{…},"signatures":{…},…}
cross_signing_keys user_id  usage      public_key  json              also of other servers' people
                   @a:x     master     0Jk…        {"keys":{…},"usage":["master"],"user_id":"@a:x"}
key_signatures     user_id  key_id     signer      signer_key        signature   added after the upload
                   @a:x     PHONE      @a:x        ed25519:Z8k…      …           a self-signing key signs a device
                   @b:x     9qQ…       @a:x        ed25519:L2d…      …           a user-signing key signs a master key

Spec: https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from storage.ports import Cursor
from storage.sql import among

MASTER, SELF_SIGNING, USER_SIGNING = "master", "self_signing", "user_signing"


class DeviceKeys(msgspec.Struct, frozen=True, gc=False):
    """The identity keys of one device."""

    user_id: str
    device_id: str
    json: bytes
    """As they were uploaded."""
    display_name: str | None


class CrossSigningKey(msgspec.Struct, frozen=True, gc=False):
    user_id: str
    usage: str
    public_key: str
    """Unpadded Base64."""
    json: bytes


class KeySignature(msgspec.Struct, frozen=True, gc=False):
    user_id: str
    """Whose key was signed."""
    key_id: str
    """A device id, or the public key of a master key."""
    signer: str
    signer_key: str
    """With its algorithm: `ed25519:PHONE`."""
    signature: str


# -- devices ------------------------------------------------------------------------------------------------------


def devices_of(cursor: Cursor, user_ids: Collection[str]) -> list[DeviceKeys]:
    """All devices of some people that have identity keys, by user and device."""
    if not user_ids:
        return []
    condition, parameters = among(cursor, "k.user_id", sorted(user_ids))
    rows = cursor.execute(f"{_SELECT_KEYS} WHERE {condition} ORDER BY k.user_id, k.device_id", parameters).fetchall()
    return [DeviceKeys(user_id, device_id, bytes(json), name) for user_id, device_id, json, name in rows]


def get_device(cursor: Cursor, user_id: str, device_id: str) -> DeviceKeys | None:
    """One device's; None where it uploaded none, or there is no such device."""
    row = cursor.execute(f"{_SELECT_KEYS} WHERE k.user_id = ? AND k.device_id = ?", (user_id, device_id)).fetchone()
    return None if row is None else DeviceKeys(row[0], row[1], bytes(row[2]), row[3])


def put_device(cursor: Cursor, user_id: str, device_id: str, json: bytes) -> bool:
    """Set a device's keys. False, and nothing written, where these are its keys already.

    Signatures that others of its owner's keys made are of no use to new keys, and go.
    """
    before = get_device(cursor, user_id, device_id)
    if before is not None and before.json == json:
        return False
    cursor.later(
        "INSERT INTO device_keys (user_id, device_id, json) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, device_id) DO UPDATE SET json = excluded.json",
        (user_id, device_id, json),
    )
    return True


def forget_devices(cursor: Cursor, user_id: str, device_ids: Sequence[str]) -> list[str]:
    """Everything about devices that are no more: keys, signatures by and on them, messages that wait.

    Gives those that had identity keys.
    """
    with_keys = []
    for device_id in device_ids:
        device = (user_id, device_id)
        if get_device(cursor, user_id, device_id) is not None:
            with_keys.append(device_id)
        cursor.later("DELETE FROM device_keys WHERE user_id = ? AND device_id = ?", device)
        cursor.later("DELETE FROM one_time_keys WHERE user_id = ? AND device_id = ?", device)
        cursor.later("DELETE FROM fallback_keys WHERE user_id = ? AND device_id = ?", device)
        cursor.later("DELETE FROM to_device WHERE user_id = ? AND device_id = ?", device)
        cursor.later("DELETE FROM dehydrated_devices WHERE user_id = ? AND device_id = ?", device)
        unsign_key(cursor, user_id, device_id)
        _unsign(cursor, user_id, f"ed25519:{device_id}")
    return with_keys


def unsign_key(cursor: Cursor, user_id: str, key_id: str) -> None:
    """Drop what was added to the signatures of a key: it is another one now, or none."""
    cursor.later("DELETE FROM key_signatures WHERE user_id = ? AND key_id = ?", (user_id, key_id))


# -- cross-signing ------------------------------------------------------------------------------------------------


def cross_signing_of(cursor: Cursor, user_ids: Collection[str]) -> dict[str, dict[str, CrossSigningKey]]:
    """The keys of some people, by user and usage."""
    if not user_ids:
        return {}
    condition, parameters = among(cursor, "user_id", sorted(user_ids))
    found: dict[str, dict[str, CrossSigningKey]] = {}
    for user_id, usage, public_key, json in cursor.execute(
        f"SELECT user_id, usage, public_key, json FROM cross_signing_keys WHERE {condition}", parameters
    ).fetchall():
        found.setdefault(user_id, {})[usage] = CrossSigningKey(user_id, usage, public_key, bytes(json))
    return found


def put_cross_signing(cursor: Cursor, key: CrossSigningKey) -> None:
    """Set a key in the place of the one before, whose signatures are of no use any more."""
    before = cross_signing_of(cursor, [key.user_id]).get(key.user_id, {}).get(key.usage)
    if before is not None and before.public_key != key.public_key:
        _unsign(cursor, key.user_id, f"ed25519:{before.public_key}")
        unsign_key(cursor, key.user_id, before.public_key)
    cursor.later(
        "INSERT INTO cross_signing_keys (user_id, usage, public_key, json) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (user_id, usage) DO UPDATE SET public_key = excluded.public_key, json = excluded.json",
        (key.user_id, key.usage, key.public_key, key.json),
    )


def delete_key(cursor: Cursor, user_id: str, usage: str) -> None:
    """Somebody has no key for that use any more."""
    cursor.later("DELETE FROM cross_signing_keys WHERE user_id = ? AND usage = ?", (user_id, usage))


def delete_cross_signing(cursor: Cursor, user_id: str) -> None:
    """The person is known no more. What they signed goes, too."""
    cursor.later("DELETE FROM cross_signing_keys WHERE user_id = ?", (user_id,))
    cursor.later("DELETE FROM key_signatures WHERE signer = ?", (user_id,))


# -- signatures ---------------------------------------------------------------------------------------------------


def signatures_on(cursor: Cursor, user_ids: Collection[str], viewer: str | None) -> list[KeySignature]:
    """What was added to the signatures of some people's keys, as far as `viewer` may see it (None: other servers).

    Everybody sees what people signed of their own; whose master keys somebody signed is for that one only.
    """
    if not user_ids:
        return []
    condition, parameters = among(cursor, "user_id", sorted(user_ids))
    rows = cursor.execute(
        "SELECT user_id, key_id, signer, signer_key, signature FROM key_signatures"
        f" WHERE {condition} AND (signer = user_id OR signer = ?) ORDER BY user_id, key_id, signer, signer_key",
        (*parameters, viewer or ""),
    ).fetchall()
    return [KeySignature(*row) for row in rows]


def put_signature(cursor: Cursor, signature: KeySignature, position: int) -> bool:
    """Add a signature. False where it is there already."""
    cursor.execute(
        "INSERT INTO key_signatures (user_id, key_id, signer, signer_key, signature, position)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, key_id, signer, signer_key)"
        " DO UPDATE SET signature = excluded.signature, position = excluded.position"
        " WHERE key_signatures.signature <> excluded.signature",
        (*msgspec.structs.astuple(signature), position),
    )
    return cursor.rowcount == 1


def _unsign(cursor: Cursor, signer: str, signer_key: str) -> None:
    """Drop what a key signed that is no more."""
    cursor.later("DELETE FROM key_signatures WHERE signer = ? AND signer_key = ?", (signer, signer_key))


_SELECT_KEYS = (
    "SELECT k.user_id, k.device_id, k.json, d.display_name FROM device_keys k"
    " LEFT JOIN devices d ON d.user_id = k.user_id AND d.device_id = k.device_id"
)

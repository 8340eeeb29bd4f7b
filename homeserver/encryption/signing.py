"""Cross-signing: the keys by which people vouch for their devices and for each other, and the signatures themselves.

What the server passes on as signed by a person it has checked: the self-signing and user-signing keys are signed by the
master key, devices by the self-signing key, one's own master key by one's devices, others' master keys by the
user-signing key.

Spec: https://spec.matrix.org/v1.19/client-server-api/#cross-signing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec
import orjson
from attrs import define

from federation.room.canonical import BadJson as NotCanonical
from federation.room.canonical import canonical_json
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.room.signing import signature_of, verify_signed_json
from homeserver.encryption.lists import DeviceChanges, DeviceLists
from homeserver.encryption.shapes import ED25519, check_cross_signing_key, is_name, verify_key
from homeserver.errors import Forbidden, InvalidParam, MatrixError, MissingParam, NotFound
from storage import device_keys as rows
from storage import sessions as session_rows
from storage.database import Database
from storage.device_keys import MASTER, SELF_SIGNING, USER_SIGNING, CrossSigningKey, KeySignature
from storage.ports import Cursor

MOST_SIGNED = 1_000
"""Keys in one upload of signatures."""
MOST_SIGNATURES = 20
"""On one key that is uploaded."""

MEMBERS = {"master_key": MASTER, "self_signing_key": SELF_SIGNING, "user_signing_key": USER_SIGNING}
"""Member of the body → use of the key."""

Failures = dict[str, dict[str, dict[str, str]]]
"""User id → key id → error."""


class RemoteKeys(Protocol):
    """Knows the master keys of other servers' people."""

    async def master_keys(self, user_ids: Iterable[str]) -> None:
        """See to it that those keys are in the database, as far as their servers tell them."""


class NoRemoteKeys:
    """For a server that keeps to itself."""

    async def master_keys(self, user_ids: Iterable[str]) -> None: ...


class SigningKeys(msgspec.Struct, frozen=True):
    """An upload of cross-signing keys, checked as far as that is possible without the ones before."""

    keys: Mapping[str, CrossSigningKey]
    """By use."""


def check_signing_keys(user_id: str, body: Mapping[str, Mapping[str, Any] | None]) -> SigningKeys:
    """`body`: the members of the request by name. Raises MatrixError."""
    given = {name: value for name, value in body.items() if value is not None}
    if not given:
        raise MissingParam("There is no key in the request")
    return SigningKeys(
        {MEMBERS[name]: check_cross_signing_key(name, value, user_id, MEMBERS[name]) for name, value in given.items()}
    )


@define(eq=False)
class CrossSigning:
    """Takes in keys and signatures of people here."""

    _database: Database
    _lists: DeviceLists
    _server_name: str
    _remote: RemoteKeys

    async def needs_owner(self, user_id: str, upload: SigningKeys) -> bool:
        """Whether its owner must confirm an upload: not the first, and not the same keys once more."""
        known = (await self._database.run(rows.cross_signing_of, [user_id])).get(user_id, {})
        return MASTER in known and not all(_is_same(known.get(usage), key) for usage, key in upload.keys.items())

    async def put_keys(self, user_id: str, upload: SigningKeys) -> None:
        """Set the keys that are new. Raises M_MISSING_PARAM, M_INVALID_SIGNATURE, or Forbidden for a device's id."""
        await self._lists.write(user_id, lambda changes: _put_keys(changes, upload))

    async def put_signatures(self, user_id: str, uploads: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Failures:
        """Add signatures that the user made: user id → key id → the key with them. Gives those that failed, and why."""
        if sum(map(len, uploads.values())) > MOST_SIGNED:
            raise InvalidParam(f"There are more than {MOST_SIGNED} keys in the request")
        elsewhere = [other for other in uploads if _is_user_id(other) and server_of(other) != self._server_name]
        if elsewhere:
            await self._remote.master_keys(elsewhere)
        return await self._lists.write(user_id, lambda changes: _put_signatures(changes, uploads))

    async def forget(self, user_id: str) -> None:
        """Delete the keys of somebody who is no more, and what they signed."""
        await self._lists.write(user_id, _forget)


# -- in the writer's thread ----------------------------------------------------------------------------------------


def _put_keys(changes: DeviceChanges, upload: SigningKeys) -> None:
    cursor, user_id = changes.cursor, changes.user_id
    known = rows.cross_signing_of(cursor, [user_id]).get(user_id, {})
    master = upload.keys.get(MASTER) or known.get(MASTER)
    if master is None:
        raise MissingParam("There is no master key to sign the others")
    devices = {device.device_id for device in session_rows.list_devices(cursor, user_id)}
    for usage, key in upload.keys.items():
        if key.public_key in devices:
            raise Forbidden(f"The {usage} key is called as one of your devices")
        if usage != MASTER and not _is_signed(orjson.loads(key.json), user_id, master.public_key):
            raise _bad_signature(f"The {usage} key is not signed by the master key")
    has_new_master = not _is_same(known.get(MASTER), master)
    for usage, key in upload.keys.items():
        if _is_same(known.get(usage), key) and not has_new_master:
            continue
        rows.put_cross_signing(cursor, key)
        if usage == USER_SIGNING:
            changes.private_changed()
        else:
            changes.signing_changed()


def _forget(changes: DeviceChanges) -> None:
    if rows.cross_signing_of(changes.cursor, [changes.user_id]):
        rows.delete_cross_signing(changes.cursor, changes.user_id)
        changes.signing_changed()


def _put_signatures(changes: DeviceChanges, uploads: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Failures:
    failures: Failures = {}
    keys = _Keys(changes.cursor, changes.user_id)
    for user_id, by_key in uploads.items():
        for key_id, value in by_key.items():
            try:
                _sign(changes, keys, user_id, key_id, value)
            except MatrixError as error:
                failures.setdefault(user_id, {})[key_id] = {"errcode": error.errcode, "error": error.error}
    return failures


def _sign(changes: DeviceChanges, keys: _Keys, user_id: str, key_id: str, value: Mapping[str, Any]) -> None:
    """Add what the user signed on one key. Raises MatrixError."""
    signer = changes.user_id
    if not _is_user_id(user_id) or not is_name(key_id):
        raise NotFound("There is no such key")
    target, may_sign = keys.target(user_id, key_id)
    if _signed_part(value) != _signed_part(orjson.loads(target)):
        raise InvalidParam("The key is not the one that is known here")
    signatures = value.get("signatures")
    mine = signatures.get(signer) if isinstance(signatures, dict) else None
    if not isinstance(mine, dict) or not mine:
        raise _bad_signature("You have not signed this key")
    if len(mine) > MOST_SIGNATURES:
        raise InvalidParam(f"There are more than {MOST_SIGNATURES} signatures")
    own = orjson.loads(target).get("signatures", {}).get(signer, {})
    added = False
    for name, signature in mine.items():
        if own.get(name) == signature:
            continue  # it came with the key
        public_key = may_sign(name) if is_name(name) else None
        if public_key is None or not _is_signed(value, signer, public_key, name):
            raise _bad_signature(f"The signature by {name} is not valid here")
        entry = KeySignature(user_id, key_id, signer, name, str(signature))
        added |= rows.put_signature(changes.cursor, entry, changes.position)
    if not added:
        return
    if user_id != signer:
        changes.signed(user_id)
    elif key_id == keys.public_key(MASTER):
        changes.signing_changed()
    else:
        changes.changed(key_id)


class _Keys(msgspec.Struct, eq=False):
    """The keys that signatures are about, and those that may have made them."""

    cursor: Cursor
    user_id: str

    def target(self, user_id: str, key_id: str) -> tuple[bytes, Callable[[str], str | None]]:
        """A key as it was uploaded, and what gives the public key for the name of one that may sign it.

        Raises NotFound or InvalidParam.
        """
        master = rows.cross_signing_of(self.cursor, [user_id]).get(user_id, {}).get(MASTER)
        if master is not None and master.public_key == key_id:
            return master.json, self._by_device if user_id == self.user_id else self._by_user_signing
        device = rows.get_device(self.cursor, user_id, key_id) if user_id == self.user_id else None
        if device is None:
            raise NotFound("There is no such key")
        return device.json, self._by_self_signing

    def public_key(self, usage: str) -> str | None:
        key = rows.cross_signing_of(self.cursor, [self.user_id]).get(self.user_id, {}).get(usage)
        return None if key is None else key.public_key

    def _by_device(self, name: str) -> str | None:
        algorithm, _, device_id = name.partition(":")
        device = rows.get_device(self.cursor, self.user_id, device_id) if algorithm == ED25519 else None
        key = None if device is None else orjson.loads(device.json)["keys"].get(name)
        return key if isinstance(key, str) else None

    def _by_self_signing(self, name: str) -> str | None:
        return self._named(SELF_SIGNING, name)

    def _by_user_signing(self, name: str) -> str | None:
        return self._named(USER_SIGNING, name)

    def _named(self, usage: str, name: str) -> str | None:
        key = self.public_key(usage)
        return key if key is not None and name == f"{ED25519}:{key}" else None


def _is_signed(value: Mapping[str, Any], user_id: str, public_key: str, name: str | None = None) -> bool:
    """Whether a key carries a valid signature of a person's key, by default under that key's own name."""
    key = verify_key(public_key)
    key_id = name or f"{ED25519}:{public_key}"
    if key is None or not isinstance(signature_of(value, user_id, key_id), str):
        return False
    return verify_signed_json(value, user_id, key_id, key)


def _signed_part(value: Mapping[str, Any]) -> bytes:
    try:
        return canonical_json({name: one for name, one in value.items() if name not in ("signatures", "unsigned")})
    except NotCanonical as error:
        raise InvalidParam(f"This can't be signed: {error}") from None


def _is_same(one: CrossSigningKey | None, other: CrossSigningKey) -> bool:
    return one is not None and one.public_key == other.public_key


def _bad_signature(why: str) -> MatrixError:
    return MatrixError(400, "M_INVALID_SIGNATURE", why)


def _is_user_id(text: str) -> bool:
    try:
        parse_user_id(text)
    except InvalidIdentifier:
        return False
    return True

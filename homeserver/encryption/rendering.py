"""Keys as others see them: what was uploaded, with the signatures that were added and that the viewer may see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import field, frozen

from storage import device_keys as rows
from storage.device_keys import CrossSigningKey, DeviceKeys, KeySignature
from storage.ports import Cursor


def with_signatures(json: bytes, added: Sequence[KeySignature]) -> dict[str, Any]:
    """A key with more signatures."""
    value: dict[str, Any] = orjson.loads(json)
    signatures = value.get("signatures")
    merged = {signer: dict(by_key) for signer, by_key in signatures.items()} if isinstance(signatures, dict) else {}
    for one in added:
        merged.setdefault(one.signer, {})[one.signer_key] = one.signature
    if merged:
        value["signatures"] = merged
    return value


@frozen
class PublicKeys:
    """The keys of some people here."""

    devices: Mapping[str, list[DeviceKeys]]
    """By user; nobody who has none."""
    cross_signing: Mapping[str, Mapping[str, CrossSigningKey]]
    """By user and usage."""
    _added: Mapping[tuple[str, str], list[KeySignature]] = field(factory=dict)

    def device(self, keys: DeviceKeys, *, show_name: bool) -> dict[str, Any]:
        """A device as `/keys/query` gives it."""
        value = self.device_keys(keys)
        if show_name and keys.display_name is not None:
            value["unsigned"] = {"device_display_name": keys.display_name}
        return value

    def device_keys(self, keys: DeviceKeys) -> dict[str, Any]:
        return with_signatures(keys.json, self._added.get((keys.user_id, keys.device_id), ()))

    def key(self, user_id: str, usage: str) -> dict[str, Any] | None:
        """A cross-signing key; None where there is none."""
        key = self.cross_signing.get(user_id, {}).get(usage)
        return None if key is None else with_signatures(key.json, self._added.get((user_id, key.public_key), ()))

    def keys(self, user_ids: Iterable[str], usage: str) -> dict[str, dict[str, Any]]:
        """The keys for one use, of those who have one."""
        found = ((user_id, self.key(user_id, usage)) for user_id in user_ids)
        return {user_id: key for user_id, key in found if key is not None}


def read_public_keys(cursor: Cursor, user_ids: Collection[str], viewer: str | None) -> PublicKeys:
    """The keys of people here, as somebody sees them (None: other servers). In a database thread."""
    devices: dict[str, list[DeviceKeys]] = defaultdict(list)
    for keys in rows.devices_of(cursor, user_ids):
        devices[keys.user_id].append(keys)
    added: dict[tuple[str, str], list[KeySignature]] = defaultdict(list)
    for one in rows.signatures_on(cursor, user_ids, viewer):
        added[one.user_id, one.key_id].append(one)
    return PublicKeys(dict(devices), rows.cross_signing_of(cursor, user_ids), dict(added))

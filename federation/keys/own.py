"""This server's own word on its keys, signed by them: what others ask for before they believe us anything.

Keys that the server signed with once are remembered, so that old events stay verifiable: changing the key file is all
it takes to change the key.

Spec: https://spec.matrix.org/v1.19/server-server-api/#publishing-keys
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from attrs import define, field

from federation.flight import SingleFlight
from federation.keys.ports import KeyStore, OwnKey
from federation.keys.response import ServerKey
from federation.room.canonical import canonical_json
from federation.room.hashing import encode_base64
from federation.room.signing import SigningKey, sign_json

VALID_MS = 24 * 3_600_000
"""How long others may keep our response. Within that time nobody learns that a key was given up."""
RENEWED_MS = 12 * 3_600_000
"""How old an answer gets before it is signed anew, so that none is about to expire."""


@define(eq=False)
class OwnKeys:
    """The keys of this server. The first of `keys` signs; all of them are published."""

    server_name: str
    _keys: Sequence[SigningKey]
    _store: KeyStore
    _now_ms: Callable[[], int]
    _old: Sequence[OwnKey] | None = field(default=None, init=False)
    """None until the database has been asked."""
    _made: tuple[int, Mapping[str, Any]] | None = field(default=None, init=False)
    """The last response, and when it was made."""
    _loading: SingleFlight[str, None] = field(factory=SingleFlight, init=False)

    @property
    def signing_key(self) -> SigningKey:
        return self._keys[0]

    async def load(self) -> None:
        """Learn the old keys, and have the new ones remembered. Called by itself when it is first needed."""
        if self._old is None:
            await self._loading.do("", self._load)

    async def _load(self) -> None:
        in_use = [OwnKey(key.key_id, key.verify_key, None) for key in self._keys]
        self._old = await self._store.update_own(in_use, self._now_ms())

    async def response(self) -> Mapping[str, Any]:
        """The response, signed; whoever gets it must not change it."""
        await self.load()
        now_ms = self._now_ms()
        if self._made is None or not 0 <= now_ms - self._made[0] < RENEWED_MS:
            self._made = now_ms, self._make(now_ms)
        return self._made[1]

    async def find(self, key_id: str) -> ServerKey | None:
        """A key of ours, in use or old."""
        for key in self._keys:
            if key.key_id == key_id:
                return ServerKey(self.server_name, key_id, key.verify_key, self._now_ms() + VALID_MS)
        await self.load()
        for old in self._old or ():
            if old.key_id == key_id and old.expired_ts is not None:
                return ServerKey(self.server_name, key_id, old.verify_key, old.expired_ts)
        return None

    def sign(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Add this server's signature, by the key that signs."""
        return sign_json(value, self.server_name, self.signing_key)

    def _make(self, now_ms: int) -> Mapping[str, Any]:
        value: dict[str, Any] = {
            "server_name": self.server_name,
            "valid_until_ts": now_ms + VALID_MS,
            "verify_keys": {key.key_id: {"key": encode_base64(key.verify_key)} for key in self._keys},
            "old_verify_keys": {
                old.key_id: {"key": encode_base64(old.verify_key), "expired_ts": old.expired_ts}
                for old in self._old or ()
            },
        }
        for key in self._keys:
            value = sign_json(value, self.server_name, key)
        # COMPAT Complement: some check the signatures of the bytes as they come, less `signatures`, not of their
        # canonical form. So the members stand in its order.
        in_order: Mapping[str, Any] = orjson.loads(canonical_json(value))
        return in_order

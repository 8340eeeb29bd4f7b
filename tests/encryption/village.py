"""People with devices and keys in a house of the test's own: real ed25519 keys, signed as clients do it.

alice = Villager.enter(house, "alice")
alice.upload(one_time=2)
alice.query(bob)["device_keys"]
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import orjson
from attrs import define, field
from nacl.signing import SigningKey

from federation.room.canonical import canonical_json
from federation.room.hashing import encode_base64
from homeserver.encryption.letters import Letterbox
from homeserver.encryption.news import DeviceNews
from homeserver.encryption.queries import KeyQueries
from homeserver.encryption.signing import CrossSigning, check_signing_keys
from homeserver.encryption.uploads import KeyUploads, check_upload
from homeserver.http.route import Requester
from homeserver.streams.tokens import parse_stream_token
from tests.fixtures_house import LivedInHouse

OTK = "signed_curve25519"
_numbers = itertools.count(1)


def public(key: SigningKey) -> str:
    return encode_base64(bytes(key.verify_key))


def signed(value: Mapping[str, Any], user_id: str, name: str, key: SigningKey) -> dict[str, Any]:
    """A copy of a key object with a signature more, as clients make it."""
    part = {one: value[one] for one in value if one not in ("signatures", "unsigned")}
    signature = encode_base64(key.sign(canonical_json(part)).signature)
    signatures = {who: dict(by_key) for who, by_key in value.get("signatures", {}).items()}
    signatures.setdefault(user_id, {})[name] = signature
    return {**value, "signatures": signatures}


@define
class Identity:
    """One's cross-signing keys."""

    user_id: str
    master: SigningKey = field(factory=SigningKey.generate)
    self_signing: SigningKey = field(factory=SigningKey.generate)
    user_signing: SigningKey = field(factory=SigningKey.generate)

    def key(self, usage: str) -> dict[str, Any]:
        own: SigningKey = getattr(self, usage)
        value = {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{public(own)}": public(own)}}
        if usage == "master":
            return value
        return signed(value, self.user_id, f"ed25519:{public(self.master)}", self.master)

    def body(self, *usages: str) -> dict[str, Any]:
        return {f"{usage}_key": self.key(usage) for usage in usages or ("master", "self_signing", "user_signing")}


@define
class Villager:
    """Somebody on one device."""

    house: LivedInHouse
    name: str
    who: Requester
    key: SigningKey = field(factory=SigningKey.generate)
    since: str | None = None

    @classmethod
    def enter(cls, house: LivedInHouse, name: str, device_id: str = "DEVICE") -> Villager:
        """Log a device in, making the account if there is none."""
        accounts = house.house.accounts
        user_id = house.user(name)
        known = house.wait(house.house.database.run(_has_account, user_id))
        if not known:
            house.wait(accounts.registration.make(name, None))
        house.wait(accounts.sessions.open(user_id, device_id=device_id))
        return cls(house, name, house.who(name, device_id))

    @property
    def user_id(self) -> str:
        return self.who.user_id

    @property
    def device_id(self) -> str:
        return self.who.device_id

    # -- keys --------------------------------------------------------------------------------------------------

    @property
    def device_keys(self) -> dict[str, Any]:
        value = {
            "user_id": self.user_id,
            "device_id": self.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {f"ed25519:{self.device_id}": public(self.key), f"curve25519:{self.device_id}": public(self.key)},
        }
        return signed(value, self.user_id, f"ed25519:{self.device_id}", self.key)

    def new_key(self, **more: Any) -> dict[str, Any]:
        value = {"key": public(SigningKey.generate()), **more}
        return signed(value, self.user_id, f"ed25519:{self.device_id}", self.key)

    def new_keys(self, count: int) -> dict[str, dict[str, Any]]:
        return {f"{OTK}:{next(_numbers):06}": self.new_key() for _ in range(count)}

    def upload(
        self,
        one_time: int | Mapping[str, Any] = 0,
        fallback: Mapping[str, Any] | None = None,
        device: bool = True,
    ) -> Mapping[str, int]:
        keys = self.new_keys(one_time) if isinstance(one_time, int) else one_time
        upload = check_upload(self.user_id, self.device_id, self.device_keys if device else None, keys, fallback or {})
        return self.house.wait(self.house.house.part(KeyUploads).upload(self.who, upload))

    def sign_in_public(self, *usages: str, identity: Identity | None = None) -> Identity:
        """Publish cross-signing keys."""
        identity = identity or Identity(self.user_id)
        upload = check_signing_keys(self.user_id, identity.body(*usages))
        self.house.wait(self.house.house.part(CrossSigning).put_keys(self.user_id, upload))
        return identity

    def put_signatures(self, uploads: Mapping[str, Any]) -> Any:
        return self.house.wait(self.house.house.part(CrossSigning).put_signatures(self.user_id, uploads))

    def query(self, *user_ids: str) -> dict[str, Any]:
        """What `keys/query` gives, as JSON."""
        queries = self.house.house.part(KeyQueries)
        found = self.house.wait(queries.query(self.user_id, {user_id: [] for user_id in user_ids}))
        answer: dict[str, Any] = orjson.loads(
            orjson.dumps(
                {
                    name: getattr(found, name)
                    for name in ("device_keys", "master_keys", "self_signing_keys", "user_signing_keys", "failures")
                }
            )
        )
        return answer

    def claim(self, *devices: Villager) -> dict[str, Any]:
        """User id → device id → name → key."""
        wanted: dict[str, dict[str, str]] = {}
        for one in devices:
            wanted.setdefault(one.user_id, {})[one.device_id] = OTK
        found = self.house.wait(self.house.house.part(KeyQueries).claim(wanted))
        keys: dict[str, Any] = orjson.loads(orjson.dumps(found.one_time_keys))
        return keys

    # -- messages ----------------------------------------------------------------------------------------------

    def send(self, messages: Mapping[str, Any], txn_id: str | None = None, event_type: str = "m.dummy") -> None:
        letterbox = self.house.house.part(Letterbox)
        self.house.wait(letterbox.send(self.who, event_type, txn_id or f"t{next(_numbers)}", messages))

    def write(self, other: Villager, text: str, txn_id: str | None = None) -> None:
        self.send({other.user_id: {other.device_id: {"text": text}}}, txn_id)

    # -- syncing -----------------------------------------------------------------------------------------------

    def sync(self, since: str | None = None) -> dict[str, Any]:
        """What is new since then, or since the last time."""
        answer = self.house.sync(self.name, since or self.since, device_id=self.device_id)
        self.since = answer["next_batch"]
        return answer

    def letters(self, since: str | None = None) -> list[str]:
        """Syncs; the messages for the device."""
        return [event["content"]["text"] for event in self.sync(since).get("to_device", {}).get("events", [])]

    def lists(self, since: str | None = None) -> tuple[list[str], list[str]]:
        """Syncs; whose devices changed, and who has left: localparts."""
        lists = self.sync(since).get("device_lists", {})
        return _names(lists.get("changed", [])), _names(lists.get("left", []))

    def lists_from_tables(self, since: str) -> tuple[list[str], list[str]]:
        """The same by `keys/changes`."""
        upto = self.house.house.hub.position
        news = self.house.house.part(DeviceNews).of(self.user_id, parse_stream_token(since).position, upto)
        found = self.house.wait(news)
        return _names(found.changed), _names(found.left)


def _names(user_ids: list[str]) -> list[str]:
    return [user_id[1:].partition(":")[0] for user_id in user_ids]


def _has_account(cursor: Any, user_id: str) -> bool:
    from storage.accounts import get_account

    return get_account(cursor, user_id) is not None

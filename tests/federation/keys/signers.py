"""Servers with keys for tests of the key ring: what they publish, and where it is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from attrs import define, field
from attrs import frozen as immutable

from federation.keys.fetch import OWN_PATH, QUERY_PATH, RemoteKeys
from federation.keys.keyring import KeyRing
from federation.keys.notary import Notary, Wanted
from federation.keys.own import OwnKeys
from federation.keys.ports import KeptResponse, KeyName, OwnKey
from federation.keys.response import KeyResponse, ServerKey
from federation.keys.sources import KeySources
from federation.outbound.client import FederationClient
from federation.outbound.transport import Request, Response
from federation.room.hashing import encode_base64
from federation.room.signing import SigningKey, sign_json
from federation.threads import Inline, Workers
from tests.federation.doubles import Calendar, Network, answer

US = "us.example"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@define
class Signer:
    """A server that publishes keys, and says what the test wants it to say."""

    name: str
    calendar: Calendar
    key: SigningKey = field(factory=lambda: SigningKey.generate("1"))
    old: dict[str, tuple[SigningKey, int]] = field(factory=dict)
    valid_ms: int = DAY_MS
    more: dict[str, Any] = field(factory=dict)

    def rotate(self, version: str) -> None:
        self.old[self.key.key_id] = (self.key, self.calendar.now_ms())
        self.key = SigningKey.generate(version)

    def published(self) -> dict[str, Any]:
        value = {
            "server_name": self.name,
            "valid_until_ts": self.calendar.now_ms() + self.valid_ms,
            "verify_keys": {self.key.key_id: {"key": encode_base64(self.key.verify_key)}},
            "old_verify_keys": {
                key_id: {"key": encode_base64(key.verify_key), "expired_ts": expired}
                for key_id, (key, expired) in self.old.items()
            },
            **self.more,
        }
        return sign_json(value, self.name, self.key)

    def __call__(self, request: Request) -> Response:
        assert request.path == OWN_PATH
        return answer(self.published())


@define
class Drawer:
    """A `KeyStore` in memory."""

    keys: dict[KeyName, ServerKey] = field(factory=dict)
    kept: dict[str, list[KeyResponse]] = field(factory=dict)
    own: dict[str, OwnKey] = field(factory=dict)
    reads: int = 0

    async def read(self, wanted: Collection[KeyName]) -> Mapping[KeyName, ServerKey]:
        self.reads += 1
        return {name: self.keys[name] for name in wanted if name in self.keys}

    async def save(self, response: KeyResponse, *, direct: bool) -> None:
        self.kept.setdefault(response.server_name, []).append(response)
        for key in response.keys:
            known = self.keys.get((key.server_name, key.key_id))
            if direct or known is None or known.valid_until_ts < key.valid_until_ts:
                self.keys[key.server_name, key.key_id] = key

    async def responses(self, server_name: str) -> Sequence[KeptResponse]:
        found, seen = [], set[str]()
        for response in reversed(self.kept.get(server_name, [])):
            key_ids = {key.key_id for key in response.keys} - seen
            seen |= key_ids
            if key_ids:
                found.append(
                    KeptResponse(response.fetched_ts, response.valid_until_ts, response.body, frozenset(key_ids))
                )
        return found

    async def update_own(self, in_use: Sequence[OwnKey], now_ms: int) -> Sequence[OwnKey]:
        current = {key.key_id: key for key in in_use}
        for key_id, key in self.own.items():
            if key_id not in current and key.expired_ts is None:
                self.own[key_id] = OwnKey(key_id, key.verify_key, now_ms)
        self.own.update(current)
        return [key for key in self.own.values() if key.expired_ts is not None]


@immutable
class Bench:
    """This server's ring and notary, with a network around them."""

    calendar: Calendar
    network: Network
    drawer: Drawer
    own: OwnKeys
    ring: KeyRing
    notary: Notary

    def add(self, name: str, **more: Any) -> Signer:
        """A new server in the network."""
        signer = Signer(name, self.calendar, **more)
        self.network.servers[name] = signer
        return signer


def bench(
    *,
    notaries: Sequence[str] = (),
    drawer: Drawer | None = None,
    workers: Workers | None = None,
    network: Network | None = None,
    calendar: Calendar | None = None,
    name: str = US,
) -> Bench:
    calendar = calendar or Calendar()
    network = network or Network()
    drawer = drawer or Drawer()
    key = SigningKey.generate("ours")
    own = OwnKeys(name, [key], drawer, calendar.now_ms)
    fetcher = RemoteKeys(FederationClient(name, key, network), calendar.now_ms)
    ring = KeyRing(own, drawer, KeySources(fetcher, notaries, calendar.now_ms), workers or Inline())
    return Bench(calendar, network, drawer, own, ring, Notary(own, drawer, ring, calendar.now_ms))


def serve_as_notary(other: Bench) -> None:
    """Put another server into its network, to be asked for its own keys and as a notary."""
    from tests.federation.doubles import outcome

    def serve(request: Request) -> Response:
        if request.path == OWN_PATH:
            return answer(outcome(other.own.response()))
        assert (request.method, request.path) == ("POST", QUERY_PATH)
        assert request.body is not None
        asked = orjson.loads(request.body)["server_keys"]
        wanted = {
            server: Wanted(frozenset(keys), max(wish["minimum_valid_until_ts"] for wish in keys.values()))
            for server, keys in asked.items()
        }
        return answer({"server_keys": outcome(other.notary.answer(wanted))})

    other.network.servers[other.own.server_name] = serve

"""The key ring: other servers' keys, from memory, from the database or from the network; and what they have signed.

    wanted ── memory ── database ── network (`sources`) ──> known

A key counts until its server's word on it ends, and at most a week after that was heard; then it is asked for anew.

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
and https://spec.matrix.org/v1.19/rooms/v5/#signing-key-validity-period
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from federation.bounded import Bounded
from federation.gather import gather
from federation.keys.batch import Batch, Claims, faults
from federation.keys.own import OwnKeys
from federation.keys.ports import KeyName, KeyStore
from federation.keys.response import KeyResponse, ServerKey, signed_by
from federation.keys.signatures import (
    GENUINE,
    MOST_TRIED,
    Claim,
    Forged,
    KeyMissing,
    SignatureVerdict,
    check_claims,
    read_claim,
    readable,
    wanted_keys,
)
from federation.keys.sources import KeySources
from federation.room.pdu import Pdu
from federation.room.signing import verify_signed_json
from federation.room.versions import RoomVersion
from federation.threads import Workers

REMEMBERED_KEYS = 20_000
LEAST_PER_THREAD = 8
"""Events that are worth a thread's while: fewer are checked where they are."""
MOST_PER_THREAD = 250
"""After so many it is the turn of others who wait for a thread."""


class KeyUnavailable(Exception):
    """A key could not be had, or not as long valid as it must be. Later it might."""

    def __init__(self, server_name: str, key_id: str, why: str) -> None:
        super().__init__(f"{key_id} of {server_name}: {why}")
        self.server_name = server_name
        self.key_id = key_id


@define(eq=False)
class KeyRing:
    """Finds keys and checks signatures."""

    _own: OwnKeys
    _store: KeyStore
    _sources: KeySources
    _workers: Workers
    _known: Bounded[KeyName, ServerKey] = field(factory=lambda: Bounded(REMEMBERED_KEYS), init=False)

    async def verify_key(self, server_name: str, key_id: str, minimum_valid_until_ts: int) -> bytes:
        """A key that is valid at least until then, 32 bytes. Raises `KeyUnavailable`."""
        name = (server_name, key_id)
        key = self._known.get(name)
        if key is None or key.valid_until_ts < minimum_valid_until_ts:
            key = (await self.find({name: minimum_valid_until_ts})).get(name)
        if key is None:
            raise KeyUnavailable(server_name, key_id, "it could not be had")
        if key.valid_until_ts < minimum_valid_until_ts:
            raise KeyUnavailable(server_name, key_id, "it is not valid any more")
        return key.verify_key

    async def verify_events(self, version: RoomVersion, pdus: Sequence[Pdu]) -> list[SignatureVerdict]:
        """Judge the signatures of events of one room version, in their order."""
        claims = [read_claim(version, pdu) for pdu in pdus]
        return await self.judge(version, claims, await self.find(wanted_keys(version, readable(claims))))

    async def verify(self, version: RoomVersion, pdus: Sequence[Pdu]) -> list[str | None]:
        """For each event why it is not validly signed; None where it is."""
        return faults(await self.verify_events(version, pdus))

    def begin(self, version: RoomVersion) -> Batch:
        """The same for events that come piece by piece."""
        return Batch(self, version)

    async def verify_json(
        self, value: Mapping[str, Any], server_name: str, minimum_valid_until_ts: int
    ) -> SignatureVerdict:
        """Judge a server's signature of any other JSON object. One valid signature is enough."""
        key_ids = signed_by(value, server_name)[:MOST_TRIED]
        if not key_ids:
            return Forged(server_name, f"{server_name} has not signed it")
        found = await self.find({(server_name, key_id): minimum_valid_until_ts for key_id in key_ids})
        usable = [key for key in found.values() if key.valid_until_ts >= minimum_valid_until_ts]
        if not usable:
            return KeyMissing(server_name, f"{server_name} has no valid key {', '.join(key_ids)} that could be had")
        if any(verify_signed_json(value, server_name, key.key_id, key.verify_key) for key in usable):
            return GENUINE
        return Forged(server_name, f"the signature of {server_name} is wrong")

    async def find(self, wanted: Mapping[KeyName, int]) -> dict[KeyName, ServerKey]:
        """What can be had of some keys, trying to get them valid until the given times (ms since 1970) at least.

        A key that is known but could not be had as long valid is given as it is.
        """
        found: dict[KeyName, ServerKey] = {}
        missing: dict[KeyName, int] = {}
        for name, minimum in wanted.items():
            if name[0] != self._own.server_name:
                missing[name] = minimum
            elif (own := await self._own.find(name[1])) is not None:
                found[name] = own
        everything = missing
        missing = self._unsatisfied(everything)
        if missing:
            for key in (await self._store.read(list(missing))).values():
                self._learn(key)
            missing = self._unsatisfied(missing)
        if missing:
            await self._sources.fetch(missing, self._keep, self._unsatisfied)
        for name in everything:
            known = self._known.get(name)
            if known is not None:
                found[name] = known
        return found

    async def judge(
        self, version: RoomVersion, claims: Claims, keys: Mapping[KeyName, ServerKey]
    ) -> list[SignatureVerdict]:
        """The verdicts on some claims, in their order, by those keys of others that could be had."""
        judged = iter(await self._check(version, readable(claims), keys))
        return [claim if isinstance(claim, Forged) else next(judged) for claim in claims]

    async def refresh(self, server_name: str) -> KeyResponse | None:
        """Ask a server for its keys, unless it was asked just now; None where nothing came of it."""
        return await self._sources.ask_server(server_name, self._keep)

    def _unsatisfied(self, wanted: Mapping[KeyName, int]) -> dict[KeyName, int]:
        return {
            name: minimum
            for name, minimum in wanted.items()
            if (key := self._known.get(name)) is None or key.valid_until_ts < minimum
        }

    def _learn(self, key: ServerKey) -> None:
        """Remember a key unless more is known of it."""
        name = (key.server_name, key.key_id)
        known = self._known.get(name)
        if known is None or known.valid_until_ts < key.valid_until_ts:
            self._known.put(name, key)

    async def _keep(self, response: KeyResponse, direct: bool) -> None:
        for key in response.keys:
            if direct:
                self._known.put((key.server_name, key.key_id), key)  # its own word may shorten what was known
            else:
                self._learn(key)
        await self._store.save(response, direct=direct)

    async def _check(
        self, version: RoomVersion, claims: Sequence[Claim], keys: Mapping[KeyName, ServerKey]
    ) -> list[SignatureVerdict]:
        parts = min(self._workers.size, len(claims) // LEAST_PER_THREAD)
        if parts < 1:
            return check_claims(version, claims, keys)
        size = min(-(-len(claims) // parts), MOST_PER_THREAD)
        outcomes = await gather(
            self._check_in_thread(version, claims[start : start + size], keys) for start in range(0, len(claims), size)
        )
        return [verdict for part in outcomes for verdict in part]

    async def _check_in_thread(
        self, version: RoomVersion, claims: Sequence[Claim], keys: Mapping[KeyName, ServerKey]
    ) -> list[SignatureVerdict]:
        return await self._workers.run(check_claims, version, claims, keys)

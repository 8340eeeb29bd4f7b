"""Questions of clients about people of other servers: answered from the lists that are here, else by their servers.

Servers that do not answer are named in `failures`; who is known not to answer is not waited for.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import orjson
from attrs import define
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from federation.gather import gather
from federation.outbound.keys import KeyRequests
from federation.outbound.transport import PeerError, Unreachable
from federation.room.identifiers import server_of
from federation.wire.keys import QueriedKeys
from homeserver.encryption.claims import Claimed, Wanted
from homeserver.encryption.queries import Answer, Asked, ClaimAnswer
from homeserver.encryption.remote.keeping import device_of, put_signing_keys
from homeserver.encryption.remote.known import KnownLists
from homeserver.encryption.remote.resync import Resyncs
from homeserver.encryption.rendering import with_signatures
from homeserver.encryption.shapes import check_cross_signing_key, check_public_keys
from homeserver.errors import MatrixError
from storage import device_keys as key_rows
from storage import remote_devices as rows
from storage.database import Database
from storage.device_keys import MASTER, SELF_SIGNING, CrossSigningKey, KeySignature
from storage.ports import Cursor
from storage.remote_devices import RemoteDevice

LONGEST_WAIT_S = 30.0
MASTER_WAIT_S = 10.0
SHORTEST_WAIT_S = 1.0
MOST_READ_EACH = 5
"""Lists that are read whole while somebody waits; if there are more of a server, it is asked for all keys at once."""

T = TypeVar("T")

Signatures = Mapping[tuple[str, str], Sequence[KeySignature]]
"""(user id, key id) → what the viewer signed."""


class _Found(msgspec.Struct, frozen=True):
    """What is known of one person, to be shown."""

    devices: Sequence[RemoteDevice]
    keys: Mapping[str, CrossSigningKey]


@define(eq=False)
class AskedKeys:
    """Implements `homeserver.encryption.queries.Elsewhere` and `homeserver.encryption.signing.RemoteKeys`."""

    database: Database
    requests: KeyRequests
    known: KnownLists
    resyncs: Resyncs
    timers: IReactorTime
    is_given_up: Callable[[str], bool] = lambda name: False
    """Whether a server has not answered us for long."""

    async def query(self, viewer: str, asked: Asked, timeout_ms: int) -> Answer:
        failures: dict[str, Any] = {}
        found: dict[str, _Found] = {}
        reliable = await self.known.reliable(list(asked))
        unread = [user_id for user_id in asked if user_id not in reliable]
        acquainted = await self.known.acquainted(unread) if unread else set()
        work = [
            self._ask_server(server, {user_id: asked[user_id] for user_id in users}, acquainted, timeout_ms, failures)
            for server, users in _by_server(unread).items()
        ]
        for told in await gather(work):
            found.update(told)
        kept = [user_id for user_id in asked if user_id in reliable or (user_id in acquainted and user_id not in found)]
        failed = set(failures)
        kept = [user_id for user_id in kept if server_of(user_id) not in failed]
        read, added = await self.database.run(_read, kept, list(asked), viewer)
        found.update(read)
        return _answer(asked, found, added, failures)

    async def claim(self, wanted: Wanted, timeout_ms: int) -> ClaimAnswer:
        failures: dict[str, Any] = {}
        work = [
            self._claim_of(server, {user_id: wanted[user_id] for user_id in users}, timeout_ms, failures)
            for server, users in _by_server(wanted).items()
        ]
        claimed: Claimed = {}
        for told in await gather(work):
            claimed.update(told)
        return ClaimAnswer(claimed, failures)

    async def master_keys(self, user_ids: Iterable[str]) -> None:
        reliable = await self.known.reliable(list(user_ids))
        unread = [user_id for user_id in user_ids if user_id not in reliable]
        work = [
            self._tell(server, self.requests.query(server, dict.fromkeys(users, ()), MASTER_WAIT_S), {}, MASTER_WAIT_S)
            for server, users in _by_server(unread).items()
        ]
        for told in await gather(work):
            if told is not None:
                await self.database.write(_put_masters, unread, told)

    # ----------------------------------------------------------------------------------------------------------

    async def _ask_server(
        self, server: str, asked: Asked, acquainted: Collection[str], timeout_ms: int, failures: dict[str, Any]
    ) -> dict[str, _Found]:
        """What a server says of its people. Those whose list was read and kept are left out: they are read from there.

        Must not raise.
        """
        timeout_s = _seconds(timeout_ms)
        keeping = [user_id for user_id in asked if user_id in acquainted]
        if len(keeping) <= MOST_READ_EACH:
            await gather([self._tell(server, self.resyncs.read(user_id), failures, timeout_s) for user_id in keeping])
            if server in failures:
                return {}
            asked = {user_id: devices for user_id, devices in asked.items() if user_id not in keeping}
        else:
            for user_id in keeping:
                self.resyncs.want(user_id)
        if not asked:
            return {}
        told = await self._tell(server, self.requests.query(server, asked, timeout_s), failures, timeout_s)
        if told is None:
            return {}
        known = told.device_keys.keys() | told.master_keys.keys()
        return {user_id: _presentable(user_id, told) for user_id in asked if user_id in known}

    async def _claim_of(self, server: str, wanted: Wanted, timeout_ms: int, failures: dict[str, Any]) -> Claimed:
        timeout_s = _seconds(timeout_ms)
        told = await self._tell(server, self.requests.claim(server, wanted, timeout_s), failures, timeout_s)
        found: Claimed = {}
        for user_id, devices in wanted.items() if told is not None else ():
            for device_id, algorithm in devices.items():
                assert told is not None
                keys = told.one_time_keys.get(user_id, {}).get(device_id, {})
                good = _good_keys(keys, algorithm)
                if good:
                    found.setdefault(user_id, {})[device_id] = good
        return found

    async def _tell(
        self,
        server: str,
        question: Coroutine[Deferred[Any], Any, T],
        failures: dict[str, Any],
        timeout_s: float,
    ) -> T | None:
        """The outcome, or None with a word in `failures`."""
        if self.is_given_up(server):
            question.close()
            failures[server] = _failure(Unreachable(server, "it has not answered for long"))
            return None
        try:
            return await Deferred.fromCoroutine(question).addTimeout(timeout_s, self.timers)
        except PeerError as error:
            failures[server] = _failure(error)
        except TimeoutError:
            failures[server] = _failure(Unreachable(server, "it did not answer in time"))
        return None


def _by_server(user_ids: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for user_id in user_ids:
        found[server_of(user_id)].append(user_id)
    return found


def _seconds(timeout_ms: int) -> float:
    return min(max(timeout_ms / 1000, SHORTEST_WAIT_S), LONGEST_WAIT_S)


def _failure(error: PeerError) -> dict[str, Any]:
    return {
        "status": 503,
        "errcode": "M_UNREACHABLE" if isinstance(error, Unreachable) else "M_UNKNOWN",
        "error": error.why,
    }


def _presentable(user_id: str, told: QueriedKeys) -> _Found:
    """What of an answer may be shown: keys in their shape, and of the person whom they are said to be of."""
    devices = []
    for device_id, keys in told.device_keys.get(user_id, {}).items():
        if isinstance(keys, dict):
            unsigned = keys.get("unsigned")
            name = unsigned.get("device_display_name") if isinstance(unsigned, dict) else None
            device = device_of(user_id, device_id, keys, name if isinstance(name, str) else None)
            if device is not None:
                devices.append(device)
    found: dict[str, CrossSigningKey] = {}
    for name, usage, values in (
        ("master_keys", MASTER, told.master_keys),
        ("self_signing_keys", SELF_SIGNING, told.self_signing_keys),
    ):
        if isinstance(value := values.get(user_id), dict):
            try:
                found[usage] = check_cross_signing_key(name, value, user_id, usage)
            except MatrixError:
                continue
    return _Found(devices, found)


def _good_keys(keys: Mapping[str, Any], algorithm: str) -> dict[str, orjson.Fragment]:
    """The first one-time key of the algorithm that is well formed."""
    for name, value in keys.items():
        try:
            (key,) = check_public_keys("one_time_keys", {name: value}, 1)
        except MatrixError:
            continue
        if key.algorithm == algorithm:
            return {key.name: orjson.Fragment(key.json)}
    return {}


def _answer(asked: Asked, found: Mapping[str, _Found], added: Signatures, failures: dict[str, Any]) -> Answer:
    answer = Answer(failures=failures)
    for user_id, one in found.items():
        wanted = asked[user_id]
        devices: dict[str, Any] = {}
        for device in one.devices:
            if not wanted or device.device_id in wanted:
                value: dict[str, Any] = orjson.loads(device.json)
                if device.display_name is not None:
                    value["unsigned"] = {"device_display_name": device.display_name}
                devices[device.device_id] = value
        answer.device_keys[user_id] = devices
        for usage, into in ((MASTER, answer.master_keys), (SELF_SIGNING, answer.self_signing_keys)):
            if (key := one.keys.get(usage)) is not None:
                into[user_id] = with_signatures(key.json, added.get((user_id, key.public_key), ()))
    return answer


# -- in a database thread ------------------------------------------------------------------------------------------


def _read(
    cursor: Cursor, kept: Sequence[str], everybody: Sequence[str], viewer: str
) -> tuple[dict[str, _Found], Signatures]:
    """What is kept of some people, and what the viewer signed of all of them."""
    devices = rows.devices_of(cursor, kept)
    keys = key_rows.cross_signing_of(cursor, kept)
    added: dict[tuple[str, str], list[KeySignature]] = defaultdict(list)
    for signature in key_rows.signatures_on(cursor, everybody, viewer):
        added[signature.user_id, signature.key_id].append(signature)
    return {user_id: _Found(devices.get(user_id, ()), keys.get(user_id, {})) for user_id in kept}, added


def _put_masters(cursor: Cursor, user_ids: Sequence[str], told: QueriedKeys) -> None:
    for user_id in user_ids:
        if isinstance(master := told.master_keys.get(user_id), dict):
            put_signing_keys(cursor, user_id, master, None)

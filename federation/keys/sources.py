"""Where keys come from over the network: from their servers, and from notaries for those that do not answer.

A server that does not answer is left alone for a while, longer each time, and so is one that has just answered without
the key that is wanted: whoever names keys that do not exist makes this server ask no more than once a minute.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import DeferredSemaphore

from federation.flight import SingleFlight
from federation.gather import gather
from federation.keys.pauses import Pauses
from federation.keys.ports import KeyFetcher, KeyName
from federation.keys.response import MOST_VALID_MS, KeyResponse
from federation.outbound.transport import PeerError

FETCHES_AT_ONCE = 40
MOST_FETCHES = 2_000
"""Servers that are being asked or wait for it. Beyond that, keys of further servers are not to be had."""
MANY = 10
"""From so many servers on, notaries are asked first: they answer for many in one request."""
NOTARY_BATCH = 50

AFTER_ANSWER_MS = 60_000
AFTER_FAILURE_MS = 10_000
LONGEST_PAUSE_MS = 5 * 60_000

Keep = Callable[[KeyResponse, bool], Awaitable[None]]
"""Told of each response, and whether it came from the server itself."""
Unsatisfied = Callable[[Mapping[KeyName, int]], dict[KeyName, int]]
"""Which of some wanted keys are still missing."""


@define(eq=False)
class KeySources:
    """Asks for keys. What comes is handed to `keep`; nothing here raises but what that does."""

    _fetcher: KeyFetcher
    _notaries: Sequence[str]
    _now_ms: Callable[[], int]
    _servers: Pauses[str] = field(init=False)
    _notary_pauses: Pauses[str] = field(init=False)
    _asked_notaries: Pauses[KeyName] = field(init=False)
    _notary_keys: dict[str, KeyResponse] = field(factory=dict, init=False)
    _fetching: SingleFlight[str, KeyResponse | None] = field(factory=SingleFlight, init=False)
    _slots: DeferredSemaphore = field(factory=lambda: DeferredSemaphore(FETCHES_AT_ONCE), init=False)
    _under_way: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._servers = Pauses(self._now_ms, AFTER_ANSWER_MS, AFTER_FAILURE_MS, LONGEST_PAUSE_MS)
        self._notary_pauses = Pauses(self._now_ms, 0, AFTER_FAILURE_MS, LONGEST_PAUSE_MS)
        self._asked_notaries = Pauses(self._now_ms, LONGEST_PAUSE_MS, LONGEST_PAUSE_MS, LONGEST_PAUSE_MS)

    async def fetch(self, missing: Mapping[KeyName, int], keep: Keep, unsatisfied: Unsatisfied) -> None:
        """Try to get keys that are valid until the given times at least, one way after the other."""
        # No response makes a key valid for longer: an event from the far future is not worth a request.
        latest = self._now_ms() + MOST_VALID_MS
        missing = {name: minimum for name, minimum in missing.items() if minimum <= latest}
        ways = [self._ask_servers, self._ask_notaries]
        if len({server_name for server_name, _ in missing}) >= MANY:
            ways.reverse()
        for way in ways:
            if missing:
                await way(missing, keep)
                missing = unsatisfied(missing)

    async def ask_server(self, server_name: str, keep: Keep) -> KeyResponse | None:
        """Ask one server for its keys, unless it is left alone just now; None where nothing came of it."""
        if self._servers.is_on(server_name):
            return None
        if not self._fetching.is_going_on(server_name) and self._under_way >= MOST_FETCHES:
            return None
        return await self._fetching.do(server_name, lambda: self._ask(server_name, keep))

    async def _ask_servers(self, missing: Mapping[KeyName, int], keep: Keep) -> None:
        await gather(self.ask_server(server, keep) for server in _servers(missing))

    async def _ask(self, server_name: str, keep: Keep) -> KeyResponse | None:
        self._under_way += 1
        try:
            await self._slots.acquire()
            try:
                response = await self._fetcher.fetch(server_name)
            finally:
                self._slots.release()
        except PeerError:
            self._servers.failed(server_name)
            return None
        finally:
            self._under_way -= 1
        self._servers.succeeded(server_name)
        if server_name in self._notaries:  # it is left alone for a while now, and may be needed as a notary in a moment
            self._notary_keys[server_name] = response
        await keep(response, True)
        return response

    async def _ask_notaries(self, missing: Mapping[KeyName, int], keep: Keep) -> None:
        for notary in self._notaries:
            wanted = [name for name in missing if name[0] != notary and not self._asked_notaries.is_on(name)]
            if not wanted or self._notary_pauses.is_on(notary):
                continue
            keys = await self._keys_of(notary, keep)
            servers = _servers(wanted) if keys else []
            for start in range(0, len(servers), NOTARY_BATCH):
                needs: dict[str, dict[str, int]] = {server: {} for server in servers[start : start + NOTARY_BATCH]}
                for server_name, key_id in wanted:
                    if server_name in needs:
                        needs[server_name][key_id] = missing[server_name, key_id]
                if not await self._ask_notary(notary, needs, keys, keep):
                    break
        for name in missing:
            self._asked_notaries.succeeded(name)

    async def _ask_notary(
        self, notary: str, needs: Mapping[str, Mapping[str, int]], keys: Mapping[str, bytes], keep: Keep
    ) -> bool:
        try:
            responses = await self._fetcher.ask_notary(notary, needs, keys)
        except PeerError:
            self._notary_pauses.failed(notary)
            return False
        self._notary_pauses.succeeded(notary)
        for response in responses:
            await keep(response, False)
        return True

    async def _keys_of(self, notary: str, keep: Keep) -> Mapping[str, bytes]:
        """The keys by which a notary vouches: what it said of them itself, and not by another notary."""
        known = self._notary_keys.get(notary)
        if known is None or known.valid_until_ts < self._now_ms():
            response = await self.ask_server(notary, keep)
            if response is None:
                return {}
            known = response
        return {key.key_id: key.verify_key for key in known.keys if key.valid_until_ts >= self._now_ms()}


def _servers(names: Iterable[KeyName]) -> list[str]:
    return sorted({server_name for server_name, _ in names})

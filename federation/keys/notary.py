"""Being a notary: handing on other servers' word on their keys, with our signature added.

A response is asked for anew when half of its time is over, or when somebody wants a key or a time that it does not
have. A server that cannot be reached any more is spoken for by what it said last.

Spec: https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from federation.gather import gather
from federation.keys.keyring import KeyRing
from federation.keys.own import OwnKeys
from federation.keys.ports import KeptResponse, KeyStore
from federation.room.canonical import parse_json
from federation.service import service


class Wanted(msgspec.Struct, frozen=True):
    """What somebody wants to know of a server's keys."""

    key_ids: frozenset[str]
    """None in particular: all of them."""
    minimum_valid_until_ts: int
    """Until when the answer should be valid, in ms since 1970."""


@service
class Notary:
    """Answers for other servers, and for this one."""

    _own: OwnKeys
    _store: KeyStore
    _ring: KeyRing
    _now_ms: Callable[[], int]

    async def answer(self, wanted: Mapping[str, Wanted]) -> list[Mapping[str, Any]]:
        """Responses of servers, signed by this one too. Servers of which nothing is known are left out."""
        answers = await gather(self._answer_for(server_name, wish) for server_name, wish in sorted(wanted.items()))
        return [response for responses in answers for response in responses]

    async def _answer_for(self, server_name: str, wish: Wanted) -> list[Mapping[str, Any]]:
        if server_name == self._own.server_name:
            return [await self._own.response()]
        kept = await self._store.responses(server_name)
        if self._is_stale(kept, wish) and await self._ring.refresh(server_name) is not None:
            kept = await self._store.responses(server_name)
        named = [response for response in kept if response.key_ids & wish.key_ids]
        return [self._own.sign(parse_json(response.body, exact=True)) for response in named or kept[:1]]

    def _is_stale(self, kept: Sequence[KeptResponse], wish: Wanted) -> bool:
        if not kept:
            return True
        newest = kept[0]
        half_time = newest.fetched_ts + (newest.valid_until_ts - newest.fetched_ts) // 2
        missing = wish.key_ids.difference(*(response.key_ids for response in kept))
        return bool(missing) or self._now_ms() >= half_time or newest.valid_until_ts < wish.minimum_valid_until_ts

"""SRV records: which machines serve a host name, remembered for as long as the name servers say.

`_matrix-fed._tcp` is asked for first, then the older `_matrix._tcp`. A look-up that fails counts as "no records", and
is soon repeated: at worst a request goes to port 8448, where the certificate still has to fit.

Spec: https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names (steps 3.3, 3.4, 4 and 5), RFC 2782
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from random import Random

import msgspec
from attrs import define, field

from federation.bounded import Bounded
from federation.discovery.ports import DiscoveryFailed, SrvAnswer, SrvLookup, SrvRecord
from federation.flight import SingleFlight

SERVICES = ("_matrix-fed._tcp", "_matrix._tcp")
SHORTEST_S = 60
LONGEST_S = 24 * 3600
NOTHING_S = 600
"""How long it is remembered that there is no such record."""
FAILED_S = 60
MAX_RECORDS = 20
REMEMBERED_NAMES = 20_000

RandomBelow = Callable[[int], int]
"""A random number from 0 up to, not including, the argument."""


def order_records(records: Iterable[SrvRecord], below: RandomBelow) -> list[SrvRecord]:
    """Records in the order in which to try them: by priority, and among equals at random by weight."""
    ordered: list[SrvRecord] = []
    for _, group in groupby(sorted(records), key=lambda record: record.priority):
        left = list(group)
        while left:
            point = below(sum(record.weight for record in left) + 1)
            for index, record in enumerate(left):
                point -= record.weight
                if point <= 0:
                    ordered.append(left.pop(index))
                    break
    return ordered


class _Known(msgspec.Struct):
    answer: SrvAnswer
    ask_again_ms: int


@define
class SrvRecords:
    """Answers from memory where it can. Asks each name once at a time."""

    _lookup: SrvLookup
    _now_ms: Callable[[], int]
    _below: RandomBelow = field(factory=lambda: Random().randrange)
    _known: Bounded[str, _Known] = field(factory=lambda: Bounded(REMEMBERED_NAMES), init=False)
    _flights: SingleFlight[str, SrvAnswer] = field(factory=SingleFlight, init=False)

    async def of(self, host: str) -> list[SrvRecord] | None:
        """The records of a host in the order in which to try them; None where it has none.

        Empty where it has one that says that the service is not to be had.
        """
        for service in SERVICES:
            records = (await self._find(f"{service}.{host}")).records
            if records:
                return order_records((record for record in records if record.target), self._below)
        return None

    async def _find(self, name: str) -> SrvAnswer:
        known = self._known.get(name)
        if known is not None and self._now_ms() < known.ask_again_ms:
            return known.answer
        return await self._flights.do(name, lambda: self._ask(name))

    async def _ask(self, name: str) -> SrvAnswer:
        known = self._known.get(name)
        try:
            answer = await self._lookup.lookup(name)
            answer = SrvAnswer(sorted(answer.records)[:MAX_RECORDS], answer.ttl_s)
            keep_s = min(max(answer.ttl_s, SHORTEST_S), LONGEST_S) if answer.records else NOTHING_S
        except DiscoveryFailed:
            answer = known.answer if known is not None else SrvAnswer(())
            keep_s = FAILED_S
        self._known.put(name, _Known(answer, self._now_ms() + keep_s * 1000))
        return answer

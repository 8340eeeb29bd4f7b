"""Verifying a large answer's events while the rest of it is still taken apart.

add ── keys at hand? ──> verified in a thread at once
          │ no
          └── waits for the first piece's keys, and then for all that are missing, which are asked for together
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred

from federation.keys.ports import KeyName
from federation.keys.response import ServerKey
from federation.keys.signatures import (
    Claim,
    Forged,
    Genuine,
    SignatureVerdict,
    read_claim,
    readable,
    wanted_keys,
)
from federation.room.parse import Pdu
from federation.room.versions import RoomVersion

Claims = Sequence[Claim | Forged]


class Judge(Protocol):
    """What a batch needs of the key ring."""

    def at_hand(self, wanted: Mapping[KeyName, int]) -> Mapping[KeyName, ServerKey] | None:
        """These keys, if memory has all of them, valid for as long as they must be."""

    async def find(self, wanted: Mapping[KeyName, int]) -> Mapping[KeyName, ServerKey]:
        """What can be had of them."""

    async def judge(
        self, version: RoomVersion, claims: Claims, keys: Mapping[KeyName, ServerKey]
    ) -> list[SignatureVerdict]:
        """The verdicts on some claims, in their order."""


@define(eq=False)
class Batch:
    """Events of one room version that come piece by piece."""

    _judge: Judge
    _version: RoomVersion
    _pieces: list[Claims] = field(factory=list)
    _under_way: dict[int, Deferred[list[SignatureVerdict]]] = field(factory=dict)
    """By the number of the piece."""
    _asking: Deferred[None] | None = None

    def add(self, pdus: Sequence[Pdu]) -> None:
        """Give one more piece."""
        self._pieces.append([read_claim(self._version, pdu) for pdu in pdus])
        if self._asking is None:
            # Whoever signed these has mostly signed the others, too.
            self._asking = Deferred.fromCoroutine(self._ask())
        else:
            self._begin(len(self._pieces) - 1)

    async def faults(self) -> list[list[str | None]]:
        """For each piece, and each of its events, why it is not validly signed; None where it is."""
        if self._asking is not None:
            await self._asking
        late = [number for number in range(len(self._pieces)) if number not in self._under_way]
        keys = await self._judge.find(self._wanted(late))
        for number in late:
            self._begin_with(number, keys)
        return [faults(await self._under_way[number]) for number in range(len(self._pieces))]

    async def _ask(self) -> None:
        await self._judge.find(self._wanted([0]))
        for number in range(len(self._pieces)):
            self._begin(number)

    def _begin(self, number: int) -> None:
        """Judge a piece if its keys are there, and it has not been begun before."""
        keys = None if number in self._under_way else self._judge.at_hand(self._wanted([number]))
        if keys is not None:
            self._begin_with(number, keys)

    def _begin_with(self, number: int, keys: Mapping[KeyName, ServerKey]) -> None:
        judging = self._judge.judge(self._version, self._pieces[number], keys)
        self._under_way[number] = Deferred.fromCoroutine(judging)

    def _wanted(self, numbers: Iterable[int]) -> dict[KeyName, int]:
        claims = (claim for number in numbers for claim in self._pieces[number])
        return wanted_keys(self._version, readable(claims))


def faults(verdicts: Sequence[SignatureVerdict]) -> list[str | None]:
    """Why each is not validly signed; None where it is."""
    return [None if isinstance(verdict, Genuine) else verdict.why for verdict in verdicts]

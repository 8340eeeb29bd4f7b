"""Verifying a large answer's events: its keys are asked for while the rest of it is still taken apart.

first piece ──> its signers' keys, mostly those of all the others' too
all pieces ──> keys that are missing still, asked for together ──> verified in threads

Not piece by piece beside the reading: two threads that verify wait for the interpreter at each signature as long as a
third one takes events apart, and a join of 3,000 events took a twentieth longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
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
from federation.room.pdu import Pdu
from federation.room.versions import RoomVersion

Claims = Sequence[Claim | Forged]


class Judge(Protocol):
    """What a batch needs of the key ring."""

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
    _asking: Deferred[object] | None = None

    def add(self, pdus: Sequence[Pdu]) -> None:
        """Give one more piece."""
        self._pieces.append([read_claim(self._version, pdu) for pdu in pdus])
        if self._asking is None:
            self._asking = Deferred.fromCoroutine(self._find(self._pieces[0]))

    async def faults(self) -> list[list[str | None]]:
        """For each piece, and each of its events, why it is not validly signed; None where it is."""
        if self._asking is not None:
            await self._asking
        claims = [claim for piece in self._pieces for claim in piece]
        verdicts = await self._judge.judge(self._version, claims, await self._find(claims))
        found = iter(faults(verdicts))
        return [list(islice(found, len(piece))) for piece in self._pieces]

    async def _find(self, claims: Claims) -> Mapping[KeyName, ServerKey]:
        return await self._judge.find(wanted_keys(self._version, readable(claims)))


def faults(verdicts: Sequence[SignatureVerdict]) -> list[str | None]:
    """Why each is not validly signed; None where it is."""
    return [None if isinstance(verdict, Genuine) else verdict.why for verdict in verdicts]

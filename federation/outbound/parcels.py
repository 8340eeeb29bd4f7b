"""What is on its way to other servers, and what the sending of it needs from others.

Spec: https://spec.matrix.org/v1.19/server-server-api/#transactions
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol

from attrs import define, field, frozen

MAX_PDUS = 50
"""In one transaction, as the specification has it."""
MAX_EDUS = 100


@define(eq=False)
class Pdu:
    """An event on its way. One object stands in the queues of all servers that it goes to."""

    room_id: str
    position: int
    """Its place in this server's stream."""
    json: bytes
    """As it was signed."""
    holders: int = 0
    """Queues that it stands in."""


@frozen(eq=False)
class Edu:
    """Something passing: `{"content":…,"edu_type":…}` as canonical JSON, made once for all who get it."""

    json: bytes
    key: Hashable | None = None
    """A newer one with the same key takes its place."""


@frozen(eq=False)
class Parcel:
    """One transaction: sent again just as it is until it is delivered or given up."""

    txn_id: str
    ts: int
    """When it was made, in ms since 1970."""
    pdus: Sequence[bytes]
    edus: Sequence[Edu]
    queued: Sequence[Pdu] = ()
    """Those in the queue that `pdus` are; empty for a parcel that makes up for what was missed."""
    covers: Mapping[str, int] = field(factory=dict)
    """Rooms that it makes up for, with the position up to which it does."""

    @property
    def is_smallest(self) -> bool:
        """Whether it can't be cut into smaller ones."""
        return len(self.queued) + len(self.covers) <= 1 and not (self.pdus and self.edus)


@frozen
class Pause:
    """A server that is left alone for a while."""

    failures: int
    """In a row."""
    until_ms: int


@frozen
class Owed:
    """That a server has yet to hear of what came in a room up to a position."""

    destination: str
    room_id: str
    position: int


@define
class Changes:
    """What is to be written down about the sending: all of it or nothing."""

    sent_upto: int | None = None
    """Every event up to here was delivered to all whom it concerns, or is owed to them."""
    owed: list[Owed] = field(factory=list)
    """Laid over what is there: the greater position counts."""
    settled: list[Owed] = field(factory=list)
    """Debts up to that position are forgotten."""
    cleared: list[str] = field(factory=list)
    """Servers to which nothing is owed."""
    pauses: dict[str, Pause | None] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sent_upto is not None or self.owed or self.settled or self.cleared or self.pauses)


@frozen
class Recovered:
    """How the sending stood when the server went down."""

    owed: Sequence[str]
    """Servers to which something is owed."""
    pauses: Mapping[str, Pause]


@frozen
class Newest:
    """The newest events of a room, for a server that missed some."""

    room_id: str
    upto: int
    """What the server is to hear of, up to here, is among them or comes before them. Not less than what is owed."""
    pdus: Sequence[bytes]
    """In the order of this server. Empty where there is nothing that the server may see or has not."""


class Courier(Protocol):
    """Brings parcels to servers."""

    async def deliver(self, destination: str, parcel: Parcel) -> None:
        """Answers when the peer has taken it. Raises `PeerError`."""


class Ledger(Protocol):
    """Remembers over restarts what is owed to whom, and who is left alone."""

    async def recover(self, head: int) -> Recovered:
        """Read everything, after working out who is owed what came after `sent_upto` and not after `head`.

        To be called once, before anything is saved.
        """

    async def save(self, changes: Changes) -> None:
        """Durable when it answers. Saves happen in the order in which they were asked for."""

    async def newest(self, destination: str, max_pdus: int) -> Sequence[Newest]:
        """Rooms of which something is owed, with their newest events: as many as fit, one at least.

        Empty where nothing is owed.
        """

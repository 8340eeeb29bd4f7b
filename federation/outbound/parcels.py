"""What is on its way to other servers, and what the sending of it needs from others.

Spec: https://spec.matrix.org/v1.19/server-server-api/#transactions
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol

import msgspec

MAX_PDUS = 50
"""In one transaction, as the specification has it."""
MAX_EDUS = 100
MAX_BYTES = 4 * 1024 * 1024
"""Of what is queued, in one transaction: proxies before other servers may take no more."""

LETTERS = "letters"
"""The topic of messages from device to device. They are written down with the message, for each server by itself: so
they are owed without a word, and what has come is told to the ledger."""


class Item(msgspec.Struct, eq=False):
    """Something that must arrive, in the order of its topic. One object stands in the queues of all its servers."""

    topic: str
    """What it is about: the id of a room, of a person (whose devices are others now), or `LETTERS`."""
    position: int
    """Its place in this server's stream."""
    json: bytes
    """An event as it was signed, or an EDU."""
    is_edu: bool = False
    holders: int = 0
    """Queues that it stands in."""


class Edu(msgspec.Struct, frozen=True, eq=False):
    """Something passing: `{"content":…,"edu_type":…}` as canonical JSON, made once for all who get it."""

    json: bytes
    key: Hashable | None = None
    """A newer one with the same key takes its place."""


class Parcel(msgspec.Struct, frozen=True, eq=False):
    """One transaction: sent again just as it is until it is delivered or given up."""

    txn_id: str
    ts: int
    """When it was made, in ms since 1970."""
    pdus: Sequence[bytes]
    edus: Sequence[bytes]
    queued: Sequence[Item] = ()
    """Those in the queue that are in it; empty for a parcel that makes up for what was missed."""
    covers: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Topics that it makes up for, with the position up to which it does."""
    passing: int = 0
    """How many of the EDUs are passing things."""
    things: int = 0
    """How many it could be cut into, beside those."""

    @property
    def is_smallest(self) -> bool:
        """Whether it can't be cut into smaller ones."""
        return self.things <= 1 and not (self.things and self.passing)


class Pause(msgspec.Struct, frozen=True):
    """A server that is left alone for a while."""

    failures: int
    """In a row."""
    until_ms: int


class Owed(msgspec.Struct, frozen=True):
    """That a server has yet to hear of what came of a topic up to a position."""

    destination: str
    topic: str
    position: int


class Changes(msgspec.Struct):
    """What is to be written down about the sending: all of it or nothing."""

    sent_upto: int | None = None
    """Everything up to here was delivered to all whom it concerns, or is owed to them."""
    owed: list[Owed] = msgspec.field(default_factory=list)
    """Laid over what is there: the greater position counts."""
    settled: list[Owed] = msgspec.field(default_factory=list)
    """Debts up to that position are forgotten; of `LETTERS`, those up to it."""
    cleared: list[str] = msgspec.field(default_factory=list)
    """Servers to which nothing is owed, but perhaps letters."""
    pauses: dict[str, Pause | None] = msgspec.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sent_upto is not None or self.owed or self.settled or self.cleared or self.pauses)


class Recovered(msgspec.Struct, frozen=True):
    """How the sending stood when the server went down."""

    owed: Sequence[str]
    """Servers to which something is owed."""
    pauses: Mapping[str, Pause]


class Newest(msgspec.Struct, frozen=True):
    """The newest of a topic, for a server that missed some; of `LETTERS`, the oldest that it has not."""

    topic: str
    upto: int
    """What the server is to hear of, up to here, is among them or comes before them. Not less than what is owed."""
    pdus: Sequence[bytes] = ()
    """In the order of this server. Empty where there is nothing that the server may see or has not."""
    edus: Sequence[bytes] = ()

    @property
    def things(self) -> int:
        """How many there are that can go one by one."""
        return len(self.edus) if self.topic == LETTERS else 1


class Courier(Protocol):
    """Brings parcels to servers."""

    async def deliver(self, destination: str, parcel: Parcel) -> None:
        """Answers when the peer has taken it. Raises `PeerError`."""


class Ledger(Protocol):
    """Remembers over restarts what is owed to whom, and who is left alone."""

    async def recover(self, head: int) -> Recovered:
        """Read everything, after working out who is owed what came after `sent_upto` and not after `head`: events of
        rooms, and news of people here.

        To be called once, before anything is saved.
        """

    async def save(self, changes: Changes) -> None:
        """Durable when it answers. Saves happen in the order in which they were asked for."""

    async def newest(self, destination: str, most: int) -> Sequence[Newest]:
        """What is owed, of each topic its newest: at most so many events, and things of each other kind; one thing at
        least. Empty where nothing is owed.
        """

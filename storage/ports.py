"""What storage takes and gives: the values that cross between the room engine and the database.

Numbers called `nid` are interned ids: small integers that stand for an event, a room, a snapshot or a string
inside one database and never leave it. The process hands them out from counters that it read at start-up
(`Counters`), so a new event knows its own before it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from federation.room.event import Event, StateKey
from storage.shared import Shared, WriterMemory

Dialect = Literal["sqlite", "postgresql"]


class Cursor(Protocol):
    """One transaction's cursor. Placeholders are `?` on both databases; a `?` inside a literal is not allowed."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def rowcount(self) -> int:
        """How many rows the last `execute` wrote."""

    @property
    def shared(self) -> Shared:
        """What every connection to this database remembers together."""

    @property
    def is_writer(self) -> bool: ...

    @property
    def writer(self) -> WriterMemory:
        """What the writer remembers beside that. Raises TypeError on a reader's cursor."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor: ...

    def later(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Execute a writing statement whose result nobody looks at, before the next `execute` or the commit."""

    def fetchone(self) -> tuple[Any, ...] | None: ...

    def fetchall(self) -> list[tuple[Any, ...]]: ...

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], suffix: str = "") -> None:
        """Insert all rows, as `later` does. `suffix` is e.g. `ON CONFLICT DO NOTHING`."""


class StateRef(msgspec.Struct, frozen=True, gc=False):
    """What the current state of a room keeps in memory of one state event."""

    nid: int
    event_id: str
    membership: str | None = None
    """For `m.room.member` only."""


class StoredEvent(msgspec.Struct, gc=False):
    """An event together with what this server knows of it. Treat as frozen."""

    nid: int
    position: int
    """Its place in this server's order: > 0 live, < 0 backfilled, 0 for an outlier (in no timeline)."""
    room_nid: int
    event: Event
    before: int
    """Snapshot of the room's state before the event; 0 for an outlier."""
    after: int
    """Snapshot after it; equals `before` unless it is an accepted state event."""
    rejected: bool = False
    soft_failed: bool = False
    redacted_by: int = 0
    """Nid of the redaction in force, or 0. `event.raw` is then already the redacted form."""
    redacted_because: StoredEvent | None = None
    replaces: int = 0
    """Nid of the state event it replaced in the current state, or 0: for `unsigned.prev_content`."""
    received_ts: int = 0
    device_id: str | None = None
    """The local device that sent it, and its transaction id: only that device is shown the id."""
    txn_id: str | None = None
    unapplied: bool = False
    """A redaction that redacts nothing, as what it names is not here or none of its business: nobody is shown it."""


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """Makes a client's retry harmless: unique per device and path, kept over restarts.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
    """

    user_id: str
    device_id: str
    path: str
    """Method and path with the room and type but without the transaction id, e.g. `send/!r:s/m.room.message`."""
    txn_id: str


class StateChange(msgspec.Struct, frozen=True, gc=False):
    """One step of a room's *current* state. `new` is None where resolution took the key away."""

    key: StateKey
    new: StateRef | None
    old: StateRef | None


class NewEvent(msgspec.Struct, gc=False):
    """One event on its way into the database."""

    stored: StoredEvent
    changes: Sequence[StateChange] = ()
    """What it changed in the room's current state (for a local event: itself or nothing). An outlier's changes tell
    of memberships only: an invite to a room that this server is not in."""
    is_outlier: bool = False
    """It has no place in the timeline: it is kept because others cite it."""
    was_outlier: bool = False
    """The database has it already, as an outlier under the same nid: it now gets its place and its verdict."""


class NewSnapshot(msgspec.Struct, frozen=True, gc=False):
    """A snapshot to be written: `parent` plus `delta` (an event nid of 0 takes the key away). Parent 0: empty state.

    A snapshot's nid is greater than its parent's.
    """

    nid: int
    parent: int
    delta: Sequence[tuple[StateKey, int]]


class RoomHead(msgspec.Struct, frozen=True, gc=False):
    """Where a room stands: what the next event builds on."""

    extremities: tuple[str, ...]
    """Event ids, oldest first."""
    depth: int
    """The greatest depth among them."""
    snapshot: int
    """The room's current (resolved) state."""


class NewRoom(msgspec.Struct, frozen=True, gc=False):
    nid: int
    room_id: str
    version: str
    creator: str
    is_space_type: str | None = None
    """`type` of the create event's content."""


class EventAppend(msgspec.Struct, gc=False):
    """One unit of the group commit: the events of one acceptance in one room, all or none of them durable.

    Everything in it becomes visible at once. `also` runs in the same transaction after the events, for what
    must commit with them (a redaction's rewriting, an alias of a new room, an upgraded directory entry).
    """

    room_nid: int
    events: Sequence[NewEvent]
    head: RoomHead | None
    """None for outliers and backfill, which do not move the room's head."""
    snapshots: Sequence[NewSnapshot] = ()
    new_room: NewRoom | None = None
    transaction: Transaction | None = None
    """Recorded with the id of the last of `events`."""
    also: Sequence[Callable[[Cursor], None]] = ()
    notice: object = None
    """Anything: handed to the commit listener in commit order. None: the append itself is handed over."""
    position: int = 0
    """The stream position of `changes`, and of what outliers among `events` change (an invite from afar)."""
    changes: Sequence[StateChange] = ()
    """What changes in the room's current state with no event to show for it: members that were left out come."""
    missing_prev: Sequence[str] = ()
    """Events that `events` name as their previous ones and that this server does not have."""


FREE_IN_A_GAP = 1 << 20
"""Positions that are left free in front of an event behind a gap: what is fetched later gets its place there."""


class Counters(msgspec.Struct):
    """The next free number of each kind, read at start-up. Only the reactor thread takes from it."""

    position: int
    event: int
    room: int
    snapshot: int
    backfill: int
    """The lowest position in use, <= 0; counts downwards."""

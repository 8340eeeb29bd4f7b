"""What all connections to one database remember together: interned strings and a few facts that never change.

The writer learns new facts inside a transaction that may yet fail, so it *stages* them: they become everybody's when
the transaction commits, and are forgotten when it does not. Readers only add what they read, which is committed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memory(Generic[K, V]):
    """A bounded map of facts that never change. Holds between `size` and twice `size` of the latest used.

    Two generations instead of a list of uses: what is used moves to the young one, and when that is full the old one
    is dropped. Every step is one dict operation, so any thread may use it without a lock; at worst two threads
    do the same step twice.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        if len(self._young) >= self._size:
            self._old = self._young
            self._young = {}
        self._young[key] = value

    def put_many(self, entries: Mapping[K, V]) -> None:
        if len(self._young) + len(entries) <= self._size:
            self._young.update(entries)
        else:
            for key, value in entries.items():
                self.put(key, value)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class Staged(Generic[K, V]):
    """The writer's view of a `Memory`: what it puts is seen by the writer at once, and by others after `keep`."""

    __slots__ = ("_memory", "_mine")

    def __init__(self, memory: Memory[K, V]) -> None:
        self._memory = memory
        self._mine: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._mine.get(key)
        return self._memory.get(key) if value is None else value

    def put(self, key: K, value: V) -> None:
        self._mine[key] = value

    def keep(self) -> None:
        """The transaction committed."""
        if self._mine:
            self._memory.put_many(self._mine)
            self._mine.clear()

    def drop(self) -> None:
        """The transaction did not commit."""
        self._mine.clear()


class Shared:
    """One per open database, of the server of this name."""

    def __init__(self, server_name: str = "") -> None:
        self.server_name = server_name
        self.own_uri = f"mxc://{server_name}/".encode()
        """What the address of each of this server's files begins with."""
        self.string_nids: Memory[str, int] = Memory(20_000)
        self.strings: Memory[int, str] = Memory(20_000)
        self.room_versions: Memory[int, str] = Memory(10_000)


class WriterMemory:
    """What only the writer's thread uses. `next_string` is the next free nid of an interned string."""

    def __init__(self, shared: Shared) -> None:
        self.string_nids: Staged[str, int] = Staged(shared.string_nids)
        self.next_string = 0
        self.snapshots: Staged[int, tuple[int, int]] = Staged(Memory(10_000))
        """Snapshot → its height and how many rows lie between it and the empty state."""
        self.chain_places: Staged[str, tuple[int, int]] = Staged(Memory(10_000))
        """Event id → its place in the chain cover."""
        self.chain_tips: Staged[int, int] = Staged(Memory(10_000))
        """Chain → its greatest sequence number."""
        self.gaps: set[int] = set()
        """Rooms with previous events that are not here. May hold a room too many, never one too few."""

    def keep(self) -> None:
        self.string_nids.keep()
        self.snapshots.keep()
        self.chain_places.keep()
        self.chain_tips.keep()

    def drop(self) -> None:
        self.string_nids.drop()
        self.snapshots.drop()
        self.chain_places.drop()
        self.chain_tips.drop()

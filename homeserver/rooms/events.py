"""Events in memory: one bounded cache in front of the database, shared by the whole process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from storage import events as event_rows
from storage.database import Database
from storage.ports import StoredEvent

EVENT_OVERHEAD_BYTES = 700
"""What an event costs in memory beside its bytes: the structs, its strings and its place in the cache."""

MOST_KEPT = 1_000
"""Of one reading: the members of a big room would drive out everything else, and not all be there the next time."""


class EventCache:
    """Stored events by nid, the least recently used leaving first once `max_bytes` are held."""

    def __init__(self, database: Database, max_bytes: int) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, StoredEvent] = OrderedDict()
        self._bytes = 0
        self._rewritten = 0
        """Counts changes of stored forms: what was being read during one may be the older form."""

    def peek(self, nid: int) -> StoredEvent | None:
        """The event if it is in memory. Never waits."""
        found = self._held.get(nid)
        if found is not None:
            self._held.move_to_end(nid)
        return found

    def put(self, stored: StoredEvent) -> None:
        """Keep an event that is committed."""
        old = self._held.pop(stored.nid, None)
        if old is not None:
            self._bytes -= _size(old)
        self._held[stored.nid] = stored
        self._bytes += _size(stored)
        while self._bytes > self._max_bytes:
            _, leaving = self._held.popitem(last=False)
            self._bytes -= _size(leaving)

    def rewrite(self, stored: StoredEvent) -> None:
        """Keep the form that a redaction gave to an event, in the place of the older one."""
        self._rewritten += 1
        self.put(stored)

    def forget(self, nids: Iterable[int]) -> None:
        """Drop events whose stored form changed, or which are gone."""
        self._rewritten += 1
        for nid in nids:
            old = self._held.pop(nid, None)
            if old is not None:
                self._bytes -= _size(old)

    async def get_many(self, nids: Sequence[int]) -> dict[int, StoredEvent]:
        """The events by nid, read in one go where they are not in memory. Unknown nids are left out."""
        found: dict[int, StoredEvent] = {}
        missing: list[int] = []
        for nid in nids:
            stored = self.peek(nid)
            if stored is None:
                missing.append(nid)
            else:
                found[nid] = stored
        if missing:
            before = self._rewritten
            read = await self._database.run(event_rows.load_events, missing)
            is_kept = len(read) <= MOST_KEPT and before == self._rewritten
            for stored in read.values():
                held = self.peek(stored.nid)
                if held is None and is_kept:
                    self.put(stored)
                # What came in meanwhile is as new at least as what was read.
                found[stored.nid] = held or stored
        return found

    async def get(self, nid: int) -> StoredEvent | None:
        return self.peek(nid) or (await self.get_many([nid])).get(nid)

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._held)


def _size(stored: StoredEvent) -> int:
    # Twice the bytes: most events that are read again also cache their client form.
    return 2 * len(stored.event.raw) + EVENT_OVERHEAD_BYTES

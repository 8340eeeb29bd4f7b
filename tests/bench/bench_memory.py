"""What stays in memory: rooms, feeds, waiting polls, events, by Python's own count (tracemalloc).

The kernel's count is greater by what the allocator keeps for later; `docs/benchmarks.md` has it for a whole server.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from config.memory import Memory
from homeserver.rooms.render import Reader, client_event
from homeserver.sync.engine import Sync
from homeserver.sync.feeds import FeedLoader
from storage.events import timeline
from storage.ports import StoredEvent
from tests.bench.busy import LAZY, BusyHouse, next_batch, open_busy_house
from tests.bench.table import Table
from tests.bench.telephone import Line, Office
from tests.fixtures_rooms import user

PEOPLE = 1_000
ROOMS_EACH = 5
MEMBERS = 10_000
EVENTS = 5_000
MIB = 1024 * 1024
LIMITS = Memory()


def weigh(make: Callable[[], object]) -> int:
    """The bytes that `make` leaves behind, what it gives back included."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size


@pytest.mark.timeout(0)
def test_memory(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'memory.db'}"
    house = open_busy_house(tmp_path, url)
    big, small = fill(house)
    house.wait(house.house.close())
    house = open_busy_house(tmp_path, url)  # which remembers nothing yet

    table = Table("Memory", ["bytes, by Python's count", "each"])
    first = weigh(lambda: house.room(big))
    room = house.room(big)
    state = len(room.visible.state)
    house.house.rooms.drop(room)
    again = weigh(lambda: house.room(big))
    table.add(f"a live room with {MEMBERS:,} members", again)
    table.add("  per state event", again / state)
    table.add("  and the names of its members, which rooms share", (first - again) / state)
    table.add(
        f"  all live rooms at their bound of {LIMITS.room_state:,} state events", mib(first / state * LIMITS.room_state)
    )

    for room_id in small:
        house.room(room_id)
    loader = house.house.part(Sync).feeds
    table.add(f"a feed of somebody in {ROOMS_EACH} rooms", weigh(lambda: feeds(house, loader)) / PEOPLE)
    lines: list[Line] = []
    office = Office.of(house)
    tokens = [office.log_in(name) for name in people()]
    since = [next_batch(house.wait(house.poll(house.who(name), None, LAZY))) for name in people()]
    idle = weigh(lambda: lines.extend(office.connect() for _ in range(PEOPLE)))
    callers = list(zip(lines, tokens, since, strict=True))
    waiting = weigh(lambda: [line.poll(token, after, 30_000) for line, token, after in callers])
    assert house.house.hub.waiting == PEOPLE
    table.add("a connection that asks for nothing", idle / PEOPLE)
    table.add("  and a long poll that waits on it", waiting / PEOPLE)

    events = house.wait(house.house.database.run(timeline, house.room(small[0]).nid, limit=EVENTS))
    for stored in events:
        house.house.events.put(stored)
    counted = house.house.events.held_bytes / len(house.house.events)
    house.house.events.forget([stored.nid for stored in events])
    nids = [stored.nid for stored in events]
    events.clear()
    read = weigh(lambda: read_all(house, nids)) / len(nids)
    shown = read + weigh(lambda: show(house, nids)) / len(nids)
    table.add("a cached event that was read", read)
    table.add("a cached event that was shown to somebody", shown)
    table.add("  what the cache counts for it", counted)
    table.add(f"  the cache at its bound of {LIMITS.event_bytes // MIB} MiB", mib(LIMITS.event_bytes * shown / counted))
    table.print()
    house.wait(house.house.close())


def people() -> Sequence[str]:
    return [f"p{n}" for n in range(PEOPLE)]


def fill(house: BusyHouse) -> tuple[str, list[str]]:
    big = house.create("m0", preset="public_chat", name="Big")
    house.join_all((f"m{n}" for n in range(1, MEMBERS)), big)
    small = [house.create("p0", preset="public_chat", name=f"Small {n}") for n in range(ROOMS_EACH)]
    for room_id in small:
        house.join_all(people()[1:], room_id)
    house.flow((lambda n=n: house.message(f"p{n % 100}", small[0]) for n in range(EVENTS)), 200)  # type: ignore[misc]
    return big, small


def feeds(house: BusyHouse, loader: FeedLoader) -> None:
    for name in people():
        house.wait(loader.get(user(name)))


def read_all(house: BusyHouse, nids: Sequence[int]) -> list[StoredEvent]:
    """In pieces, since a large reading would not be kept."""
    pieces = [nids[start : start + 500] for start in range(0, len(nids), 500)]
    return [stored for piece in pieces for stored in house.wait(house.house.events.get_many(piece)).values()]


def show(house: BusyHouse, nids: Sequence[int]) -> None:
    """Make each event's client form, which stays with it."""
    reader = Reader(user("m0"), None, 0)
    for stored in read_all(house, nids):
        client_event(stored, reader)


def mib(size: float) -> str:
    return f"{size / MIB:.1f} MiB"

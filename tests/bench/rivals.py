"""What the same costs two servers of different makes: processor time, memory, bytes in the database, side by side."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from attrs import define, field

from federation.room.event import Event
from homeserver.harness.client import until
from homeserver.harness.person import Person
from homeserver.harness.server import Server
from tests.bench.stranger import Stranger
from tests.bench.table import Table, show

AT_ONCE = 50
"""Events in a transaction: as many as there may be."""
TICKS = os.sysconf("SC_CLK_TCK")

OUR_STATES = ("state_snapshots", "state_deltas", "strings")
THEIR_STATES = ("state_groups", "state_groups_state", "state_group_edges")


def cpu_s(server: Server) -> float:
    """Processor time of the server and the processes under it."""
    return sum(_cpu_s(pid) for pid in _tree(server.pid))


def pss_mib(server: Server) -> float:
    """Memory, of what processes share each one's part."""
    total = 0
    for pid in _tree(server.pid):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def settle(server: Server) -> None:
    """Wait until it does nothing more."""
    if server.make == "synapse":
        until(lambda: _staged(server), 0, 3600)
    for _ in range(300):
        before = cpu_s(server)
        time.sleep(1)
        if cpu_s(server) - before < 0.05:
            return
    raise AssertionError("the server does not come to rest")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _tree(int(child))


def _staged(server: Server) -> int:
    """Events that a Synapse has answered for and has yet to look at."""
    with closing(sqlite3.connect(f"file:{server.directory}/homeserver.db?mode=ro", uri=True, timeout=30)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM federation_inbound_events_staging").fetchone()[0])


def bytes_of(server: Server, tables: Sequence[str], directory: Path) -> tuple[int, int]:
    """Of the server's database, packed: those of some tables with their indices, and all."""
    copy = directory / f"{server.directory.name}.db"
    with (
        closing(sqlite3.connect(f"file:{_database(server)}?mode=ro", uri=True, timeout=30)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
        target.execute("VACUUM")
        everything = copy.stat().st_size
        target.execute("PRAGMA foreign_keys = OFF")
        for table in tables:
            target.execute(f"DROP TABLE {table}")
        target.commit()
        target.execute("VACUUM")
    return everything - copy.stat().st_size, everything


def _database(server: Server) -> Path:
    return next(path for path in sorted(server.directory.rglob("*.db")) if path.stat().st_size > 0)


@define
class Rivals:
    """Figures of both, and what becomes of them."""

    table: Table = field(factory=lambda: Table("Federation, beside Synapse", ["", "Synapse", "ours", "ratio"]))

    def add(self, name: str, synapse: float, ours: float) -> None:
        ratio = (
            "" if not ours or not synapse else f"1/{show(synapse / ours)}" if ours < synapse else show(ours / synapse)
        )
        self.table.add(name, synapse, ours, ratio)


def in_batches(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    for start in range(0, len(events), AT_ONCE):
        yield events[start : start + AT_ONCE]


def deliver(by: Stranger, server: Server, events: Sequence[Event]) -> float:
    """Send all of it, transaction by transaction; the CPU time that it took, in seconds."""
    before = cpu_s(server)
    for some in in_batches(events):
        by.send(server, some)
        if server.make == "synapse":
            # It answers at once and works later, and forgets what waits for long.
            until(lambda: _staged(server), 0, 3600)
    settle(server)
    return cpu_s(server) - before


def sees(person: Person, room_id: str, event: Event) -> None:
    until(lambda: person.event(room_id, event.event_id)["event_id"], event.event_id)

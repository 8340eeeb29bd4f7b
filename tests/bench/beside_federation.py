"""Federation beside a Synapse: what the same traffic costs either, in one run on one machine.

    SYNAPSE_PYTHON=… .venv/bin/python -m pytest tests/bench/beside_federation.py -s

CPU is processor time of the servers' processes, which take turns. Both are on SQLite, without limits of rates and with
every check on. The traffic comes from `stranger.py`; who joins a large room is a real server, and so is who hosts it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from attrs import define, frozen

from federation.room.event import Event
from homeserver.harness.client import until
from homeserver.harness.person import V3, Person, in_path
from homeserver.harness.server import Server
from homeserver.harness.town import Town
from tests.bench.stranger import Branch, Stranger, Strangers, enter
from tests.bench.table import Table, show
from tests.fixtures_town import find_synapse

AT_ONCE = 50
"""Events in a transaction: as many as there may be."""
TRANSACTIONS = 10
ROUNDS = 3
FORK = int(os.environ.get("FORK", "1000"))
MEMBERS = int(os.environ.get("MEMBERS", "2000"))
STATE = int(os.environ.get("STATE", "5000"))
"""State events of the large room, the members among them."""
SMALL_MEMBERS, SMALL_STATE = 200, 500
HOMES = 20
"""Servers that its members are of."""
JOINS = 1
DESTINATIONS = 200
IDLE_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")

OUR_STATES = ("state_snapshots", "state_deltas", "strings")
THEIR_STATES = ("state_groups", "state_groups_state", "state_group_edges")


# -- what it takes --------------------------------------------------------------------------------------------------


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

    table: Table

    def add(self, name: str, synapse: float, ours: float) -> None:
        ratio = (
            "" if not ours or not synapse else f"1/{show(synapse / ours)}" if ours < synapse else show(ours / synapse)
        )
        self.table.add(name, synapse, ours, ratio)


@frozen
class Stage:
    town: Town
    strangers: Strangers
    synapse: Server
    ours: Server
    directory: Path

    @property
    def both(self) -> tuple[Server, Server]:
        return self.synapse, self.ours


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("beside")
    with Town.built(directory / "town") as town:
        strangers = Strangers(town)
        synapse, ours = town.synapse(find_synapse()), town.ours()
        town.start()
        yield Stage(town, strangers, synapse, ours, directory)
        strangers.close()


def table(title: str) -> Rivals:
    return Rivals(Table(title, ["", "Synapse", "ours", "ratio"]))


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


# -- the comparisons ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(0)
def test_inbound(stage: Stage) -> None:
    stranger = stage.strangers.add()
    costs: dict[str, list[float]] = {server.make: [] for server in stage.both}
    rooms: dict[str, tuple[Person, Branch]] = {}
    people = [stranger.person(f"p{number}") for number in range(10)]
    for server in stage.both:
        alice = server.register("alice")
        room_id = alice.create_room(preset="public_chat", room_version="11")
        branch = enter(stranger, server, room_id, people[0])
        deliver(stranger, server, [branch.join(stranger, user_id) for user_id in people[1:]])
        deliver(stranger, server, [branch.say(stranger, people[n % 10], "warm") for n in range(4 * AT_ONCE)])
        rooms[server.make] = alice, branch
    for _ in range(ROUNDS):
        for server in stage.both:
            alice, branch = rooms[server.make]
            events = [branch.say(stranger, people[n % 10], f"message {n}") for n in range(TRANSACTIONS * AT_ONCE)]
            costs[server.make].append(deliver(stranger, server, events) / len(events) * 1000)
            sees(alice, branch.room_id, events[-1])
    rivals = table("Events of a peer, 50 in a transaction")
    rivals.add("CPU ms an event", median(costs["synapse"]), median(costs["ours"]))
    rivals.add("memory afterwards, MiB", *(pss_mib(server) for server in stage.both))
    print(costs)
    rivals.table.print()


@pytest.mark.timeout(0)
def test_forks(stage: Stage) -> None:
    stranger = stage.strangers.add()
    left, right = stranger.person("left"), stranger.person("right")
    costs: dict[str, list[float]] = {}
    outcomes: dict[str, Any] = {}
    for server in stage.both:
        alice = server.register("forks")
        powers = {"users": {alice.user_id: 100, left: 100, right: 100}}
        room_id = alice.create_room(preset="public_chat", room_version="11", power_level_content_override=powers)
        trunk = enter(stranger, server, room_id, left)
        deliver(stranger, server, [trunk.join(stranger, right)])
        ways = trunk.copy(), trunk.copy()
        ways[1].ts += 5
        first, second = fork(ways[0], stranger, left, "left"), fork(ways[1], stranger, right, "right")
        in_line = deliver(stranger, server, first)
        beside = deliver(stranger, server, second)
        merged = ways[0]
        merged.tip = [ways[0].tip[0], ways[1].tip[0]]
        merging = merged.say(stranger, left, "together again")
        merge = deliver(stranger, server, [merging])
        sees(alice, room_id, merging)
        costs[server.make] = [in_line / FORK * 1000, beside / FORK * 1000, merge * 1000, in_line + beside + merge]
        state = alice.state(room_id)
        outcomes[server.make] = {
            key: {"users": len(event["content"]["users"])} if key[0] == "m.room.power_levels" else event["content"]
            for key, event in state.items()
            if key[0] in ("org.example.item", "m.room.power_levels") or key[1].endswith(stranger.name)
        }
    assert outcomes["ours"] == outcomes["synapse"]
    rivals = table(f"Two forks of {FORK:,} state events each")
    names = (
        "the first fork: CPU ms an event",
        "the second: CPU ms an event",
        "the event after both: CPU ms",
        "all: CPU s",
    )
    for name, synapse, ours in zip(names, costs["synapse"], costs["ours"], strict=True):
        rivals.add(name, synapse, ours)
    rivals.table.print()


def fork(branch: Branch, by: Stranger, sender: str, name: str) -> list[Event]:
    """State that both forks fight for, people who come, and powers that are given."""
    events = []
    for number in range(FORK):
        if number % 20 == 19:
            content = branch.power_content
            users = content["users"] | {f"@{name}{number}:{by.name}": number % 50}
            events.append(branch.set(by, sender, "m.room.power_levels", "", content | {"users": users}))
        elif number % 10 == 5:
            events.append(branch.join(by, by.person(f"{name}{number}")))
        else:
            content = {"by": name, "number": number}
            events.append(branch.set(by, sender, "org.example.item", str(number % 300), content))
    return events


@pytest.mark.timeout(0)
def test_states(stage: Stage) -> None:
    homes = [stage.strangers.add() for _ in range(HOMES)]
    for server in stage.both:
        furnish(server, homes, SMALL_MEMBERS, SMALL_STATE)
    sizes = bytes_of(stage.synapse, THEIR_STATES, stage.directory), bytes_of(stage.ours, OUR_STATES, stage.directory)
    rivals = table(f"A room of {SMALL_MEMBERS:,} members and {SMALL_STATE:,} state events, each a change of its own")
    rivals.add("its states in the database: bytes a change", *(size[0] / SMALL_STATE for size in sizes))
    print("whole databases, bytes", sizes)
    rivals.table.print()


@pytest.mark.timeout(0)
def test_large_room(stage: Stage) -> None:
    """The host is a Synapse that has come into the room itself: it would take long to furnish it there."""
    town, strangers = stage.town, stage.strangers
    host = town.synapse(find_synapse())
    town.start()
    room_id = furnish(stage.ours, [strangers.add() for _ in range(HOMES)], MEMBERS, STATE)
    carol = host.register("carol")
    path = f"{V3}/join/{in_path(room_id)}?via={in_path(stage.ours.name)}&server_name={in_path(stage.ours.name)}"
    assert host.request("POST", path, {}, token=carol.token, timeout=600).status == 200
    until(lambda: joined(carol, room_id) > MEMBERS, True, 1200)
    joins: dict[str, list[Joined]] = {"synapse": [], "ours": []}
    for _ in range(JOINS):
        for fresh in (town.ours(), town.synapse(find_synapse())):
            town.start()
            joins[fresh.make].append(join(fresh, host, room_id))
            print(fresh.make, joins[fresh.make][-1], flush=True)
            fresh.stop()
    rivals = table(f"A room of {MEMBERS:,} members and {STATE:,} state events")
    for name, get in FIGURES.items():
        rivals.add(name, *(median(get(joined) for joined in joins[make]) for make in ("synapse", "ours")))
    rivals.table.print()


@frozen
class Joined:
    """What it took to come into a room."""

    first_s: float
    """Until the first message was sent."""
    first_cpu_s: float
    host_cpu_s: float
    """Of the host, in that time."""
    whole_s: float
    """Until everybody was known."""
    cpu_s: float
    """All that it took until it came to rest."""
    pss_mib: float


FIGURES: dict[str, Callable[[Joined], float]] = {
    "joining it, until a first message is sent: CPU s": lambda joined: joined.first_cpu_s,
    "the same: s by the clock": lambda joined: joined.first_s,
    "of the host, a Synapse, in that time: CPU s": lambda joined: joined.host_cpu_s,
    "until everybody is known: s by the clock": lambda joined: joined.whole_s,
    "all of it: CPU s": lambda joined: joined.cpu_s,
    "memory afterwards, MiB": lambda joined: joined.pss_mib,
}


def join(server: Server, host: Server, room_id: str) -> Joined:
    bob = server.register("bob")
    settle(server)
    settle(host)
    before, of_host, began = cpu_s(server), cpu_s(host), time.monotonic()
    via = in_path(host.name)
    path = f"{V3}/join/{in_path(room_id)}?via={via}&server_name={via}"
    answer = server.request("POST", path, {}, token=bob.token, timeout=600)
    assert answer.status == 200, answer
    bob.say(room_id, "here I am")
    first_s, first_cpu_s, host_cpu_s = time.monotonic() - began, cpu_s(server) - before, cpu_s(host) - of_host
    until(lambda: joined(bob, room_id) > MEMBERS, True, 1200)
    whole_s = time.monotonic() - began
    settle(server)
    return Joined(first_s, first_cpu_s, host_cpu_s, whole_s, cpu_s(server) - before, pss_mib(server))


def joined(person: Person, room_id: str) -> int:
    """How many are in the room; a server that does not know everybody yet may take its time for the answer."""
    path = f"{V3}/rooms/{in_path(room_id)}/joined_members"
    answer = person.server.request("GET", path, token=person.token, timeout=600)
    return len(answer.json["joined"]) if answer.status == 200 else 0


def furnish(server: Server, homes: Sequence[Stranger], members: int, state: int) -> str:
    """A large room on a server, whose people are of other servers."""
    alice = server.register("host")
    porter = homes[0].person("porter")
    powers = {"users": {alice.user_id: 100, porter: 50}}
    room_id = alice.create_room(
        preset="public_chat", name="Hall", room_version="11", power_level_content_override=powers
    )
    branch = enter(homes[0], server, room_id, porter)
    there = len(alice.state(room_id))
    newcomers = [(home, home.person(f"m{n}")) for n in range(members // len(homes) + 1) for home in homes]
    events = [branch.join(home, user_id) for home, user_id in newcomers[: members - 2]]
    events += [
        branch.set(homes[0], porter, "org.example.item", str(number), {"number": number, "text": "x" * 50})
        for number in range(state - there - len(events))
    ]
    deliver(homes[0], server, events)
    sees(alice, room_id, events[-1])
    assert len(alice.state(room_id)) == state and len(alice.joined(room_id)) == members
    return room_id


@pytest.mark.timeout(0)
def test_idle(stage: Stage) -> None:
    homes = [stage.strangers.add() for _ in range(DESTINATIONS)]
    figures: dict[str, list[float]] = {}
    for server in stage.both:
        alice = server.register("idle")
        room_id = alice.create_room(preset="public_chat", room_version="11")
        branch = enter(homes[0], server, room_id, homes[0].person("first"))
        deliver(homes[0], server, [branch.join(home, home.person("bob")) for home in homes])
        until(lambda alice=alice, room_id=room_id: len(alice.joined(room_id)), DESTINATIONS + 2)  # type: ignore[misc]
        memory = pss_mib(server)
        alice.say(room_id, "first, to open the connections")
        until(lambda: heard_by(stage, homes, 1), DESTINATIONS)
        settle(server)
        stage.strangers.heard.clear()
        before = cpu_s(server)
        for number in range(5):
            alice.say(room_id, f"{number}")
            until(lambda number=number: heard_by(stage, homes, number + 1), DESTINATIONS)  # type: ignore[misc]
        settle(server)
        telling = cpu_s(server) - before
        stage.strangers.heard.clear()
        before = cpu_s(server)
        time.sleep(IDLE_S)
        idle = cpu_s(server) - before
        figures[server.make] = [telling / 5 * 1000, idle / IDLE_S * 1000, pss_mib(server), pss_mib(server) - memory]
    rivals = table(f"A room with {DESTINATIONS} other servers")
    names = (
        "a message to all: CPU ms",
        "nothing happens: CPU ms a second",
        "memory, MiB",
        "of which for the sending, MiB",
    )
    for name, synapse, ours in zip(names, figures["synapse"], figures["ours"], strict=True):
        rivals.add(name, synapse, ours)
    rivals.table.print()


def heard_by(stage: Stage, homes: Sequence[Stranger], events: int) -> int:
    return sum(stage.strangers.heard[home.name] >= events for home in homes)

"""Federation beside a Synapse: what the same traffic costs either, in one run on one machine.

    SYNAPSE_PYTHON=… HALL=… .venv/bin/python -m pytest tests/bench/beside_federation.py -s

With a hall that is furnished already it takes less than half an hour on a quiet machine, half of which a Synapse takes
for two forks of 1,000 events: `FORK=300` makes them bearable where there is less time, `-k` selects parts.
CPU is processor time of the servers' processes, which take turns. Both are on SQLite, without limits of rates and with
every check on. The traffic comes from `stranger.py`; who joins the large room (`hall.py`) is a real server, and a
Synapse hosts it. All figures are printed as one table at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from attrs import frozen

from federation.room.event import Event
from homeserver.harness.client import until
from homeserver.harness.person import V3, Person, in_path
from homeserver.harness.server import Server
from homeserver.harness.town import Town
from tests.bench.hall import MEMBERS, STATE, Hall, furnish, open_hall
from tests.bench.rivals import AT_ONCE, OUR_STATES, Rivals, bytes_of, cpu_s, deliver, pss_mib, sees, settle
from tests.bench.stranger import Branch, Stranger, Strangers, enter
from tests.fixtures_town import find_synapse

TRANSACTIONS = 10
ROUNDS = 3
FORK = int(os.environ.get("FORK", "1000"))
JOINS = int(os.environ.get("JOINS", "3"))
"""How often the large room is joined on either side."""
DESTINATIONS = 200
IDLE_S = 60.0


@frozen
class Stage:
    town: Town
    strangers: Strangers
    synapse: Server
    ours: Server
    directory: Path
    rivals: Rivals

    @property
    def both(self) -> tuple[Server, Server]:
        return self.synapse, self.ours


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("beside")
    rivals = Rivals()
    with Town.built(directory / "town") as town:
        strangers = Strangers(town)
        synapse, ours = town.synapse(find_synapse()), town.ours()
        town.start()
        try:
            yield Stage(town, strangers, synapse, ours, directory, rivals)
        finally:
            rivals.table.print()
            strangers.close()


@pytest.fixture(scope="module")
def hall(stage: Stage) -> tuple[Server, Hall]:
    return open_hall(stage.town, stage.strangers, stage.directory)


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
    print(costs, flush=True)
    name = f"a peer's message, {AT_ONCE} in a transaction: CPU ms an event"
    stage.rivals.add(name, median(costs["synapse"]), median(costs["ours"]))
    stage.rivals.add("memory afterwards, MiB", *(pss_mib(server) for server in stage.both))


@pytest.mark.timeout(0)
def test_large_room(stage: Stage, hall: tuple[Server, Hall]) -> None:
    town, (host, room) = stage.town, hall
    joins: dict[str, list[Joined]] = {"synapse": [], "ours": []}

    def join_afresh(fresh: Server) -> Joined:
        fresh.start()
        joined = join(fresh, host, room.room_id)
        print(fresh.make, joined, flush=True)
        return joined

    join_afresh(town.ours())  # the host reads the room from its disk
    for number in range(JOINS):
        pair = [town.ours(), town.synapse(find_synapse())]
        for fresh in pair if number % 2 else reversed(pair):
            joins[fresh.make].append(join_afresh(fresh))
    for name, get in FIGURES.items():
        stage.rivals.add(name, *(median(get(joined) for joined in joins[make]) for make in ("synapse", "ours")))


@pytest.mark.timeout(0)
def test_states(stage: Stage, hall: tuple[Server, Hall]) -> None:
    ours = stage.town.ours()
    ours.start()
    before, _ = bytes_of(ours, OUR_STATES, stage.directory)
    furnish(ours, [stage.strangers.add() for _ in hall[1].homes], MEMBERS, STATE)
    after, _ = bytes_of(ours, OUR_STATES, stage.directory)
    ours.stop()
    name = f"the states of a room, {MEMBERS:,} members and {STATE:,} state events: bytes a change"
    stage.rivals.add(name, hall[1].state_bytes / STATE, (after - before) / STATE)


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


LARGE = f"joining a room of {MEMBERS:,} members and {STATE:,} state events"
FIGURES: dict[str, Callable[[Joined], float]] = {
    LARGE + ", until a first message is sent: CPU s": lambda joined: joined.first_cpu_s,
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
    found = Joined(first_s, first_cpu_s, host_cpu_s, whole_s, cpu_s(server) - before, pss_mib(server))
    bob.leave(room_id)  # and runs on, at rest: whoever comes next asks it for its key
    return found


def joined(person: Person, room_id: str) -> int:
    """How many are in the room; a server that does not know everybody yet may take its time for the answer."""
    path = f"{V3}/rooms/{in_path(room_id)}/joined_members"
    answer = person.server.request("GET", path, token=person.token, timeout=600)
    return len(answer.json["joined"]) if answer.status == 200 else 0


@pytest.mark.timeout(0)
def test_idle(stage: Stage) -> None:
    homes = [stage.strangers.add() for _ in range(DESTINATIONS)]
    figures: dict[str, list[float]] = {}
    for server in stage.both:
        alice = server.register("idle")
        room_id = alice.create_room(preset="public_chat", room_version="11")
        branch = enter(homes[0], server, room_id, homes[0].person("first"))
        deliver(homes[0], server, [branch.join(home, home.person("bob")) for home in homes])
        everybody = DESTINATIONS + 2
        until(lambda alice=alice, room_id=room_id: len(alice.joined(room_id)), everybody, 600)  # type: ignore[misc]
        memory = pss_mib(server)
        tell(stage, homes, alice, room_id, f"{server.make}: to open the connections")
        settle(server)
        before = cpu_s(server)
        for number in range(5):
            tell(stage, homes, alice, room_id, f"{server.make}: {number}")
        settle(server)
        telling = cpu_s(server) - before
        before = cpu_s(server)
        time.sleep(IDLE_S)
        idle = cpu_s(server) - before
        figures[server.make] = [telling / 5 * 1000, idle / IDLE_S * 1000, pss_mib(server), pss_mib(server) - memory]
        print(server.make, figures[server.make], flush=True)
    names = (
        f"{DESTINATIONS} other servers in a room, a message to all of them: CPU ms",
        "nothing happens there: CPU ms a second",
        "memory, MiB",
        "of which for the sending, MiB",
    )
    for name, synapse, ours in zip(names, figures["synapse"], figures["ours"], strict=True):
        stage.rivals.add(name, synapse, ours)


def tell(stage: Stage, homes: Sequence[Stranger], alice: Person, room_id: str, text: str) -> None:
    """Say something, and wait until all of them have heard it. A Synapse that did not reach somebody in time sends the
    newest event later and none of those before it, so it is of no use to count."""
    alice.say(room_id, text)
    until(lambda: sum(text in stage.strangers.heard[home.name] for home in homes), len(homes), 600)


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
        print(server.make, costs[server.make], flush=True)
        state = alice.state(room_id)
        outcomes[server.make] = {
            key: {"users": len(event["content"]["users"])} if key[0] == "m.room.power_levels" else event["content"]
            for key, event in state.items()
            if key[0] in ("org.example.item", "m.room.power_levels") or key[1].endswith(stranger.name)
        }
    assert outcomes["ours"] == outcomes["synapse"]
    names = (
        f"two forks of {FORK:,} state events each, the first: CPU ms an event",
        "the second: CPU ms an event",
        "the event after both: CPU ms",
        "all of it: CPU s",
    )
    for name, synapse, ours in zip(names, costs["synapse"], costs["ours"], strict=True):
        stage.rivals.add(name, synapse, ours)


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

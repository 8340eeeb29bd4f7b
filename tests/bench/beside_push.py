"""Push rules beside a Synapse: what a message costs in a large room of local people, in one run on one machine.

    SYNAPSE_PYTHON=… .venv/bin/python -m pytest tests/bench/beside_push.py -s

As in `beside_federation.py`, CPU is processor time of the servers' processes until they have come to rest, on SQLite.
Nobody syncs: what is left is the message's way in, and what it is for everybody in the room. A room of two tells the
one from the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median

import pytest

from homeserver.harness.person import V3, Person, in_path
from homeserver.harness.server import Server
from homeserver.harness.town import Town
from tests.bench.rivals import Rivals, cpu_s, pss_mib, settle
from tests.bench.table import Table
from tests.fixtures_town import find_synapse

MEMBERS = int(os.environ.get("MEMBERS", "1000"))
MESSAGES = 40
ROUNDS = 3


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with Town.built(tmp_path_factory.mktemp("beside") / "town") as town:
        servers = town.synapse(find_synapse()), town.ours()
        town.start()
        yield servers


class Hall:
    """A large room, a small one, and everybody in them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.speaker = server.register("speaker")
        self.people = [server.register(f"p{number}") for number in range(MEMBERS - 1)]
        self.large, self.small = (self.speaker.create_room(preset="public_chat") for _ in range(2))
        self.people[0].join(self.small)
        for person in self.people:
            person.join(self.large)
        self.cost(self.large)  # what is made once for a room

    def cost(self, room_id: str, text: str = "message") -> float:
        """CPU ms for each of some messages."""
        settle(self.server)
        before = cpu_s(self.server)
        for number in range(MESSAGES):
            self.speaker.say(room_id, f"{text} {number}, as people write them, of a dozen words or so")
        settle(self.server)
        return (cpu_s(self.server) - before) / MESSAGES * 1000

    def have_words(self) -> None:
        """Everybody wants to be told of a word of their own."""
        for number, person in enumerate(self.people):
            rule = {"pattern": f"word{number}", "actions": ["notify", {"set_tweak": "highlight"}]}
            person.call("PUT", f"{V3}/pushrules/global/content/word", rule)


@pytest.mark.timeout(0)
def test_messages(both: tuple[Server, Server]) -> None:
    halls = [Hall(server) for server in both]
    rivals = Rivals(Table(f"A message in a room of {MEMBERS:,} local people", ["", "Synapse", "ours", "ratio"]))
    small = measure(halls, "small")
    rivals.add("in a room of two: CPU ms", *small)
    large = measure(halls, "large")
    rivals.add("in the large room: CPU ms", *large)
    rivals.add("the difference", *(many - few for many, few in zip(large, small, strict=True)))
    for hall in halls:
        hall.have_words()
    rivals.add("everybody has a word of their own: CPU ms", *measure(halls, "large"))
    rivals.add("one of these is said", *measure(halls, "large", "word7"))
    rivals.add("memory afterwards, MiB", *(pss_mib(server) for server in both))
    rivals.table.print()
    for hall in halls:
        check(hall)


def measure(halls: list[Hall], room: str, text: str = "message") -> list[float]:
    """Of each server in turn, the median of the rounds."""
    rounds = [[hall.cost(getattr(hall, room), text) for hall in halls] for _ in range(ROUNDS)]
    print(room, text, rounds, flush=True)
    return [median(one) for one in zip(*rounds, strict=True)]


def check(hall: Hall) -> None:
    """Both have counted the same."""
    counts = [unread(person, hall.large) for person in hall.people[6:9]]
    said = MESSAGES * ROUNDS
    assert [highlights for _, highlights in counts] == [0, said, 0]
    assert counts[0][0] == 3 * said + MESSAGES


def unread(person: Person, room_id: str) -> tuple[int, int]:
    section = person.call(
        "GET", f"{V3}/sync?filter=%7B%22room%22%3A%7B%22rooms%22%3A%5B%22{in_path(room_id)}%22%5D%7D%7D"
    )
    counts = section["rooms"]["join"][room_id]["unread_notifications"]
    return counts["notification_count"], counts["highlight_count"]

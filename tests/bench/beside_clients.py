"""What clients do all day, beside a Synapse: what each costs either, in one run on one machine.

    SYNAPSE_PYTHON=… .venv/bin/python -m pytest tests/bench/beside_clients.py -s

As in `beside_federation.py`, CPU is processor time of the servers' processes until they have come to rest, on SQLite.
Each request has a connection of its own, but where a row says that it is kept, as real clients do. The rooms that are
searched are filled by way of the databases (`crowd.py`).
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Self

import pytest
from attrs import define, field, frozen

from homeserver.harness.person import V3, Person
from homeserver.harness.server import Server
from homeserver.harness.town import Town
from tests.bench.crowd import fill, topic
from tests.bench.rivals import Rivals, cpu_s, pss_mib, settle
from tests.bench.stranger import Strangers
from tests.bench.table import Table
from tests.fixtures_town import find_synapse

ROUNDS = 3
ROOMS = int(os.environ.get("ROOMS", "100"))
"""That one account is in."""
MESSAGES = int(os.environ.get("MESSAGES", "2000"))
"""That are searched in."""
MANY = int(os.environ.get("MANY", "100000"))
"""In the large room."""
FILE = os.urandom(1024 * 1024) * 8
FILES = 5
KEYS = 100
SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

Work = Callable[[], int]
"""Does something; how many times."""


@frozen
class Stage:
    servers: tuple[Server, Server]
    strangers: Strangers
    rivals: Rivals

    def compare(self, name: str, works: list[Work], scale: float = 1000) -> None:
        """What one time costs each: the median of rounds in turn, in CPU ms unless scaled."""
        rounds = [
            [cost(server, work) * scale for server, work in zip(self.servers, works, strict=True)]
            for _ in range(ROUNDS)
        ]
        print(name, rounds, flush=True)
        self.rivals.add(name, *(median(one) for one in zip(*rounds, strict=True)))


@define
class Kept:
    """Somebody's one connection."""

    _person: Person
    _connection: http.client.HTTPConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self._person.server.port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, data, {"Authorization": f"Bearer {self._person.token}"})
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text[:300]
        return json.loads(text)


Caller = Person | Kept


def cost(server: Server, work: Work) -> float:
    settle(server)
    before = cpu_s(server)
    times = work()
    settle(server)
    return (cpu_s(server) - before) / times


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    rivals = Rivals(Table("What clients do, beside Synapse", ["", "Synapse", "ours", "ratio"]))
    with Town.built(tmp_path_factory.mktemp("beside") / "town") as town:
        strangers = Strangers(town)
        servers = town.synapse(find_synapse()), town.ours()
        town.start()
        try:
            yield Stage(servers, strangers, rivals)
        finally:
            rivals.table.print()
            strangers.close()


@pytest.mark.timeout(0)
def test_sync(stage: Stage) -> None:
    people = [server.register("traveller") for server in stage.servers]
    rooms = [[one.create_room(name=f"Room {n}") for n in range(ROOMS)] for one in people]
    for person, there in zip(people, rooms, strict=True):
        for room_id in there:
            person.say(room_id, "hello")

    def first_screen(person: Person) -> Work:
        def work() -> int:
            for number in range(10):
                window = {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": [["m.room.name", ""]]}
                answer = person.call("POST", SLIDING, {"conn_id": f"c{number}", "lists": {"all": window}})
                assert len(answer["rooms"]) == 20
            return 10

        return work

    stage.compare(f"sliding sync, the first 20 of {ROOMS} rooms: CPU ms", [first_screen(one) for one in people])

    def news(person: Person, room_id: str) -> Work:
        def work() -> int:
            since = person.call("GET", f"{V3}/sync")["next_batch"]
            for number in range(20):
                person.say(room_id, f"news {number}")
                answer = person.call("GET", f"{V3}/sync?since={since}")
                since = answer["next_batch"]
                assert room_id in answer["rooms"]["join"]
            return 20

        return work

    works = [news(person, there[0]) for person, there in zip(people, rooms, strict=True)]
    stage.compare("a message, and an incremental sync with it: CPU ms", works)


def look(caller: Caller, found: int) -> Work:
    def work() -> int:
        for number in range(20):
            ask = {"search_term": topic(number), "order_by": "recent"}
            answer = caller.call("POST", f"{V3}/search", {"search_categories": {"room_events": ask}})
            assert answer["search_categories"]["room_events"]["count"] == found
        return 20

    return work


@pytest.mark.timeout(0)
@pytest.mark.parametrize("messages", [MESSAGES, MANY])
def test_search(stage: Stage, messages: int) -> None:
    stranger = stage.strangers.add()
    people = [server.register(f"reader{messages}") for server in stage.servers]
    topics = messages // 20
    for server, person in zip(stage.servers, people, strict=True):
        fill(stranger, server, person, messages, topics)
    name = f"search in {messages:,} messages, {{}}: CPU ms"
    stage.compare(name.format("20 match"), [look(one, 20) for one in people])
    with Kept(people[0]) as first, Kept(people[1]) as second:
        stage.compare(name.format("20 match, kept connection"), [look(first, 20), look(second, 20)])
    stage.rivals.add("memory afterwards: MiB", *(pss_mib(server) for server in stage.servers))


@pytest.mark.timeout(0)
def test_media(stage: Stage) -> None:
    people = [server.register("painter") for server in stage.servers]
    files: dict[str, list[str]] = {}
    size_mib = len(FILE) // 2**20

    def upload(person: Person) -> Work:
        def work() -> int:
            for _ in range(FILES):
                answer = person.server.request(
                    "POST",
                    "/_matrix/media/v3/upload",
                    os.urandom(16) + FILE,
                    token=person.token,
                    headers={"Content-Type": "application/octet-stream"},
                )
                files.setdefault(person.server.make, []).append(answer.json["content_uri"].removeprefix("mxc://"))
            return FILES * size_mib

        return work

    stage.compare("upload: CPU ms a MiB", [upload(one) for one in people])
    stage.rivals.add("memory afterwards: MiB", *(pss_mib(server) for server in stage.servers))

    def download(person: Person) -> Work:
        def work() -> int:
            for file in files[person.server.make][:FILES]:
                path = f"/_matrix/client/v1/media/download/{file}"
                answer = person.server.request("GET", path, token=person.token)
                assert len(answer.body) == len(FILE) + 16
            return FILES * size_mib

        return work

    stage.compare("download: CPU ms a MiB", [download(one) for one in people])


@pytest.mark.timeout(0)
def test_claims(stage: Stage) -> None:
    numbers = itertools.count()
    people = [(server.register("owner"), server.register("other")) for server in stage.servers]

    def claim(owner: Person, other: Caller) -> Work:
        def work() -> int:
            start = next(numbers) * KEYS
            keys: dict[str, Any] = {
                f"signed_curve25519:{n:08}": {"key": f"k{n}", "signatures": {}} for n in range(start, start + KEYS)
            }
            owner.call("POST", f"{V3}/keys/upload", {"one_time_keys": keys})
            ask = {"one_time_keys": {owner.user_id: {owner.device_id: "signed_curve25519"}}}
            for _ in range(KEYS):
                found = other.call("POST", f"{V3}/keys/claim", ask)["one_time_keys"][owner.user_id][owner.device_id]
                assert len(found) == 1
            return KEYS

        return work

    stage.compare("a claim of a one-time key: CPU ms", [claim(*both) for both in people])
    with Kept(people[0][1]) as first, Kept(people[1][1]) as second:
        kept = [claim(people[0][0], first), claim(people[1][0], second)]
        stage.compare("the same on a kept connection: CPU ms", kept)

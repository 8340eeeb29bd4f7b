"""Scenarios on real servers of several makes: written once, played with every mix of servers in every role.

    @scenario("host", "guest")
    def test_a_message(cast: Cast) -> None:
        host, guest = cast
        alice, bob = cast.person("alice", host), cast.person("bob", guest)
        room_id = cast.room(alice, preset="public_chat")
        bob.join(room_id, via=[host])
        ...

A role is a server; `cast` says which one plays it, and in which room version. The everyday tests play each scenario
with a Synapse in one role after the other, the versions taking turns; with ACCEPTANCE=1 (`make acceptance`) all mixes
are played in all versions. The servers are shared by all scenarios of a test process: make people with `cast.person`,
rooms with `cast.room`, and stop no server. A test that does has a town of its own: `new_town`.

docs/harness.md tells more.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from attrs import define, field, frozen

from homeserver.harness.client import until
from homeserver.harness.lines import Lines
from homeserver.harness.ours import ROOT, ServerProcess
from homeserver.harness.person import Person
from homeserver.harness.server import Server
from homeserver.harness.synapse import Synapse
from homeserver.harness.town import Town

Make = Literal["ours", "synapse"]
MAKES: tuple[Make, ...] = ("ours", "synapse")
VERSIONS = ("10", "11", "12")
EVERYDAY_MIXES = 2
"""Mixes in which a scenario is played every day; each has a Synapse in one role."""

F = TypeVar("F", bound=Callable[..., None])


@frozen
class Casting:
    """Who plays: a make for each role, and the version of the rooms."""

    makes: tuple[Make, ...]
    version: str

    def __str__(self) -> str:
        return f"{'-'.join(self.makes)}-v{self.version}"


def scenario(*roles: str, versions: Sequence[str] = VERSIONS) -> Callable[[F], F]:
    """A test with the fixture `cast`, played in several mixes. The roles' names are for whoever reads."""

    def mark(test: F) -> F:
        castings = _castings(test.__name__, len(roles), versions)
        parametrize = pytest.mark.parametrize("cast", castings, indirect=True, ids=str)
        return pytest.mark.timeout(300)(parametrize(test))

    return mark


def _castings(name: str, roles: int, versions: Sequence[str]) -> list[Casting]:
    mixes = list(itertools.product(MAKES, repeat=roles))
    if os.environ.get("ACCEPTANCE"):
        played = [mix for mix in mixes if "ours" in mix]
        return [Casting(mix, version) for mix in played for version in versions]
    first = zlib.crc32(name.encode())
    once = [mix for mix in mixes if mix.count("synapse") == 1]
    chosen = [once[(first + number) % len(once)] for number in range(min(EVERYDAY_MIXES, len(once)))]
    return [Casting(mix, versions[(first + number) % len(versions)]) for number, mix in enumerate(chosen)]


@define(eq=False)
class Company:
    """The servers that scenarios share, each started when it is first wanted."""

    town: Town
    synapse_python: Callable[[], Path]
    _ours: list[ServerProcess] = field(factory=list)
    _synapses: list[Synapse] = field(factory=list)

    def play(self, makes: Sequence[Make]) -> list[Server]:
        """A server of its own for each role."""
        while len(self._ours) < makes.count("ours"):
            self._ours.append(self.town.ours())
        while len(self._synapses) < makes.count("synapse"):
            self._synapses.append(self.town.synapse(self.synapse_python()))
        self.town.start()
        pools: dict[Make, Iterator[Server]] = {"ours": iter(self._ours), "synapse": iter(self._synapses)}
        return [next(pools[make]) for make in makes]


@define(eq=False)
class Cast:
    """The servers of one scenario, in the order of its roles: `host, guest = cast`."""

    servers: list[Server]
    version: str
    town: Town
    began: int
    """The moment at which it began, for `lines.passages`."""

    def __iter__(self) -> Iterator[Server]:
        return iter(self.servers)

    @property
    def lines(self) -> Lines:
        return self.town.lines

    def person(self, name: str, server: Server) -> Person:
        """Somebody new, whatever others of that name there are."""
        return server.register(f"{name}-{next(_people)}")

    def room(self, founder: Person, **body: object) -> str:
        """A new room of the version that is played."""
        return founder.create_room(room_version=self.version, **body)


_people = itertools.count(1)


def wait_for_members(room_id: str, *people: Person, everybody: Sequence[Person] | None = None) -> None:
    """Until all of them see each other in the room, and nobody else; or those of `everybody`."""
    wanted = {person.user_id for person in (people if everybody is None else everybody)}
    for person in people:
        until(lambda person=person: person.joined(room_id), wanted)  # type: ignore[misc]


def wait_for_agreement(room_id: str, *people: Person) -> None:
    """Until all of them, who are on different servers, see the same state in the room: the same events."""
    first, *others = people

    def differences() -> list[object]:
        state = {key: event["event_id"] for key, event in first.state(room_id).items()}
        found: list[object] = []
        for person in others:
            theirs = {key: event["event_id"] for key, event in person.state(room_id).items()}
            keys = sorted(key for key in state.keys() | theirs.keys() if state.get(key) != theirs.get(key))
            found += [(person.server.name, key, state.get(key), theirs.get(key)) for key in keys]
        return found

    until(differences, [])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios first: the process that begins with them has played them all before others are done and take work from
    it, so that only one has to start a Synapse."""
    items.sort(key=lambda item: "cast" not in getattr(item, "fixturenames", ()))


# -- fixtures -------------------------------------------------------------------------------------------------------


def find_synapse() -> Path:
    """The Python of the tests' own Synapse, installed by `make synapse` if need be; SYNAPSE_PYTHON names another."""
    if chosen := os.environ.get("SYNAPSE_PYTHON"):
        return Path(chosen)
    subprocess.run(["make", "--no-print-directory", "synapse"], cwd=ROOT, check=True, timeout=1800)
    return ROOT / ".venv-synapse/bin/python"


@pytest.fixture(scope="session")
def synapse_python() -> Path:
    return find_synapse()


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The servers that this test process's scenarios share."""
    with Town.built(tmp_path_factory.mktemp("town") / "town") as town:
        yield Company(town, find_synapse)


@pytest.fixture
def cast(company: Company, request: pytest.FixtureRequest) -> Iterator[Cast]:
    """Those who play this scenario. What our servers log as an error meanwhile fails it."""
    casting: Casting = request.param
    servers = company.play(casting.makes)
    ours = [server for server in servers if isinstance(server, ServerProcess)]
    before = [len(server.errors()) for server in ours]
    began = company.town.lines.now()
    yield Cast(servers, casting.version, company.town, began)
    names = {
        server.name: f"{role}({make})" for role, (server, make) in enumerate(zip(servers, casting.makes, strict=True))
    }
    for passage in company.town.lines.passages(since=began):  # shown where the test fails
        ways = f"{names.get(passage.origin or '', passage.origin)} → {names.get(passage.destination)}"
        print(ways, passage.method, passage.path, passage.query, passage.status, passage.fault or "")
    for server, count in zip(ours, before, strict=True):
        wrong = server.errors()[count:]
        assert not wrong, wrong[:3]


@pytest.fixture
def new_town(tmp_path: Path) -> Iterator[Town]:
    """A town of the test's own, without servers yet; they are stopped and their logs judged at its end."""
    with Town.built(tmp_path / "town") as town:
        yield town
    for server in town.servers:
        if isinstance(server, ServerProcess):
            server.check_log()

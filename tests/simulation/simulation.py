"""One seed, from the first boot to the verdict.

    founding    servers start, people come, a room is made and joined in good weather
    trouble     the plan's steps: people do things, the adversary does worse
    healing     the network is whole again, everybody is up; time passes until nobody owes anybody anything
    talking     on every server somebody says something in every room, so that all forks meet
    rest        time passes until everything has ended that can end
    verdict     `tests.simulation.verdict`

The same classes as in production do all of it, but for the clock (`world`), the network (`network`) and the threads of
the database (`world.Hands`); the disk is real, and what a server has after a crash is what is on it.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from federation.room.signing import SigningKey, write_signing_key
from homeserver.app import House
from homeserver.observe.log import structlog
from storage.database import open_database
from tests.fixtures_db import Pump
from tests.fixtures_fleet import Fleet, Member, PostBox
from tests.simulation import steps, trouble, verdict
from tests.simulation.machine import Machine, known_secrets
from tests.simulation.network import Network
from tests.simulation.people import Broken, Gone, Person, begin
from tests.simulation.plan import Plan, PlannedStep, make_plan
from tests.simulation.story import Teller
from tests.simulation.world import World

T = TypeVar("T")

HEALING_S = 900.0
TALKS = 3
REST_S = 307.0
LONGEST_REST_S = 3 * 3600.0

_templates: dict[str, bytes] = {}


@define(eq=False)
class Simulation(Fleet):
    """See the module's docstring. Also the `Scene` of the steps."""

    plan: Plan = field(kw_only=True)
    world: World = field(kw_only=True)
    network: Network = field(kw_only=True)
    machines: dict[str, Machine] = field(factory=dict)
    people: list[Person] = field(factory=list)
    rooms: dict[str, str] = field(factory=dict)
    versions: dict[str, str] = field(factory=dict)
    faults: list[str] = field(factory=list)
    """What must not happen and did."""
    under_way: int = 0
    """Steps."""

    # -- the fleet, on other ground ------------------------------------------------------------------------------

    def open(self, *names: str) -> list[Member]:
        return [self._open(name) for name in names]

    def wait(self, awaitable: Any) -> Any:
        """Let things happen until this has come to its end."""
        outcome: list[Any] = []
        done = awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(awaitable)
        done.addBoth(outcome.append)
        while not outcome:
            assert self.world.step(), "it waits for something that never happens"
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    def surroundings(self, name: str) -> dict[str, Any]:
        return self.machines[name].surroundings()

    def make_member(self, house: House, name: str, post: PostBox) -> Member:
        house.start()
        return Member(house, self.reactor, self, name, post)

    # -- what steps need -----------------------------------------------------------------------------------------

    def called(self, room_id: str) -> str:
        return self.rooms.get(room_id, room_id)

    def found(self, room_id: str, version: str) -> None:
        self.rooms[room_id] = f"R{len(self.rooms) + 1}"
        self.versions[room_id] = version

    @property
    def honest(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.name != trouble.EVIL]

    def spawn(self, what: str, work: Any, dice: Random | None = None) -> None:
        """Begin something; it is told of in the story when it ends, and by whom it failed."""
        self.under_way += 1

        async def run() -> None:
            try:
                said = await work
                if said is not None:
                    self.world.note(said)
            except Gone as gone:
                self.world.note(f"{what}: {gone} went down meanwhile")
            except Broken as broken:
                self.fault(str(broken))

        def ended(outcome: object) -> None:
            self.under_way -= 1
            if isinstance(outcome, Failure):
                self.fault(f"{what}: {outcome.getTraceback()}")

        begin(run()).addBoth(ended)

    def fault(self, text: str) -> None:
        self.world.note(f"FAULT {text}")
        self.faults.append(text)

    # -- the course of it ----------------------------------------------------------------------------------------

    def run_it(self) -> None:
        """Everything up to the verdict."""
        for name in self.plan.servers:
            self._add_machine(name)
        for name, machine in self.machines.items():
            # Notaries of each other: whose keys can't be had has no part in a room that is entered.
            self.federation[name] = {"notaries": [one.name for one in self.honest if one is not machine]}
            machine.boot()
        for server, name in self.plan.people:
            self._add_person(server, name)
        self._run(2)
        self._found_rooms()
        self._trouble()
        self._heal()
        self.faults += verdict.after_healing(self)
        self._talk()
        self._rest()
        self.faults += verdict.at_rest(self)
        self.faults += self.wait(verdict.of_clients(self))
        self.faults += verdict.of_rooms(self)

    def _add_machine(self, name: str) -> None:
        directory = self.directory / name
        directory.mkdir()
        key = SigningKey.from_seed("sim", self.world.dice("key", name).randbytes(32))
        (directory / "signing.key").write_text(write_signing_key(key))
        machine = Machine(self, name, slowest_s=self.plan.slowest_s, keeps=self.plan.keeps)
        self.machines[name] = machine
        self.network.hosts[name] = machine

    def _add_person(self, server: str, name: str) -> None:
        dice = self.world.dice("person", server, name)
        person = Person(
            self.machines[server],
            name,
            dice,
            timeline_limit=dice.choice((1, 3, 10, 20)),
            use_state_after=dice.random() < 0.5,
        )
        self.people.append(person)

        async def live() -> None:
            try:
                await person.live()
            except Broken as broken:
                self.fault(f"{person.label}: {broken}")

        def ended(outcome: object) -> None:
            if isinstance(outcome, Failure):
                self.fault(f"{person.label}: {outcome.getTraceback()}")

        begin(live()).addBoth(ended)

    def _run(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    def _found_rooms(self) -> None:
        dice = self.world.dice("founding")
        for founder, version in self.plan.rooms:
            self.spawn("founding", steps.make_room(self, dice, self.people[founder], version))
            self._run(3)
        for room_id in list(self.rooms):
            self.spawn("opening", self._open_up(room_id))
        self._run(3)
        for room_id in list(self.rooms):
            for person in self.people:
                if dice.random() < 0.7 and room_id not in person.rooms:
                    self.spawn("coming in", steps.enter(self, person, room_id, self._founder(room_id).machine.name))
                    self._run(1)
        self._run(5)

    def _founder(self, room_id: str) -> Person:
        index = list(self.rooms).index(room_id)
        return self.people[self.plan.rooms[index][0]]

    async def _open_up(self, room_id: str) -> str:
        """Let everybody in, and some of them have a say."""
        founder = self._founder(room_id)
        dice = self.world.dice("opening", self.called(room_id))
        reply = await founder.set_state(room_id, "m.room.join_rules", {"join_rule": "public"})
        levels = dict(founder.rooms[room_id].content("m.room.power_levels"))
        others = [person.user_id for person in self.people if person is not founder]
        users = {user_id: dice.choice((0, 50, 100)) for user_id in others}
        await founder.set_state(
            room_id, "m.room.power_levels", {**levels, "users": {**levels.get("users", {}), **users}}
        )
        return f"{founder.label} opens {self.called(room_id)}: {reply}"

    def _trouble(self) -> None:
        began = self.world.now
        for planned in self.plan.steps:
            self.world.run_until(max(self.world.now, began + planned.at_s))
            self._begin_step(planned)
        self._run(10)

    def _begin_step(self, planned: PlannedStep) -> None:
        dice = self.world.dice("step", planned.number)
        if planned.name in steps.STEPS:
            work = steps.STEPS[planned.name].work(self, dice)
        else:
            work = trouble.TROUBLES[planned.name].work(self, dice)
        self.spawn(f"step {planned.number} {planned.name}", work)

    def _heal(self) -> None:
        self.world.note("--- healing")
        self.network.calm()
        for machine in self.machines.values():
            machine.skew_ms = 0
            machine.slowest_s = 0.01
        for person in self.people:
            person.is_away = False
        deadline = self.world.now + HEALING_S
        while self.world.now < deadline:
            for machine in self.machines.values():
                if not machine.is_up and machine.timers is None:
                    machine.boot()
            self._run(30)

    def _talk(self) -> None:
        for round in range(TALKS):
            self.world.note(f"--- talking, round {round + 1}")
            for room_id in sorted(self.rooms):
                for machine in self.machines.values():
                    self.spawn("talking", self._talk_in(machine, room_id, round))
                    self._run(1)
            self._run(30)

    async def _talk_in(self, machine: Machine, room_id: str, round: int) -> str | None:
        """Have the first who may say something there."""
        for person in self.people:
            if person.machine is machine and room_id in person.rooms:
                reply = await person.say(room_id, f"{person.label} in round {round + 1} {self.called(room_id)}")
                if reply.is_well:
                    return f"{person.label} speaks in {self.called(room_id)}"
        return None

    def _rest(self) -> None:
        self.world.note("--- rest")
        deadline = self.world.now + LONGEST_REST_S
        self._run(REST_S)
        while self.world.now < deadline and verdict.at_rest(self):
            self._run(REST_S)


@frozen
class Outcome:
    """What came of a seed."""

    seed: int
    faults: Sequence[str]
    digest: str
    """Of all that happened."""
    story: Sequence[str]
    """What happened, line by line; with details where it was asked for."""
    steps: int
    plan: Plan


def run_seed(
    seed: int,
    *,
    without: Collection[int] = (),
    is_told: bool = False,
    sabotage: Callable[[], Any] | None = None,
) -> Outcome:
    """Run one seed. `without`: steps of the plan that are left out. `is_told`: with all details.

    `sabotage`: a context in which parts of the servers are faulty.
    """
    plan = make_plan(seed).leave_out(without)
    directory = Path(tempfile.mkdtemp(prefix="guildhall-simulation-", dir=_memory_disk()))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        outcome = _run(plan, World(seed), directory, is_told, sabotage)
    finally:
        shutil.rmtree(directory)
        _bury()
        if was_enabled:
            gc.enable()
    return outcome


def _run(plan: Plan, world: World, directory: Path, is_told: bool, sabotage: Callable[[], Any] | None) -> Outcome:
    simulation = Simulation(
        directory,
        lambda name: _new_database(directory / name / "simulated.db", name),
        plan=plan,
        world=world,
        network=Network(world),
    )
    if is_told:
        world.story = []
        simulation.network.tell = Teller(simulation.versions, simulation.rooms).tell
    with ExitStack() as stack:
        stack.enter_context(known_secrets(world.dice("secrets")))
        stack.enter_context(_logs_to(simulation))
        if sabotage is not None:
            stack.enter_context(sabotage())
        try:
            simulation.run_it()
        except Exception:
            simulation.fault(Failure().getTraceback())
        finally:
            for machine in simulation.machines.values():
                if machine.is_up:
                    machine.crash()
    return Outcome(world.seed, list(simulation.faults), world.digest, world.story or world.lines, world.steps, plan)


def _bury() -> None:
    """Let go of the servers that crashed, with whatever they were about. What was waiting there for its turn gets it as
    the one before it is cleared away, and can't go on: nobody needs to hear of that.
    """

    def say_nothing(logger: object, method: str, record: Any) -> Any:
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[say_nothing], cache_logger_on_first_use=False)
    try:
        gc.collect()
    finally:
        structlog.configure(**before)


def _memory_disk() -> str | None:
    """Where files cost least: nothing here outlives the machine."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _new_database(path: Path, server_name: str) -> str:
    """A copy of an empty database of that server's, which is made once in a process."""
    url = f"sqlite:///{path}"
    if server_name not in _templates:
        pump = Pump()
        pump.wait(open_database(url, pump, server_name=server_name).close())
        _templates[server_name] = path.read_bytes()
    else:
        path.write_bytes(_templates[server_name])
    return url


@contextmanager
def _logs_to(simulation: Simulation) -> Iterator[None]:
    """Errors in logs are faults; the rest is not looked at."""

    def take(logger: object, method: str, record: Any) -> Any:
        if method in ("error", "exception", "critical"):
            text = str(record.pop("event"))
            trace = record.pop("exc_info", None)
            failure = ""
            if trace:
                failure = Failure(*trace).getTraceback() if isinstance(trace, tuple) else Failure().getTraceback()
            simulation.fault(f"logged: {text} {record} {failure}")
        elif simulation.world.story is not None:
            simulation.world.whisper(" ".join(map(str, record.values())))
        raise structlog.DropEvent

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            text = formatEvent(event) or "unhandled"
            simulation.fault(f"logged: {text} {'' if failure is None else failure.getTraceback()}")

    before = structlog.get_config()
    structlog.configure(processors=[take], cache_logger_on_first_use=False)
    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
        structlog.configure(**before)

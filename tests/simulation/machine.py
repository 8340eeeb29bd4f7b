"""One server of the simulation, through all of its runs: what is on its disk, and what is in its memory at present."""

from __future__ import annotations

import random
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from federation.outbound.transport import Request
from federation.threads import Workers
from homeserver.app import GRACE_SECONDS
from homeserver.clock import Clock
from homeserver.errors import MatrixError
from homeserver.http.answer import Answer, answer_of_error
from homeserver.http.route import Requester
from homeserver.observe.log import structlog
from homeserver.rooms.accept import Accepted
from homeserver.rooms.receive.receiver import Receiver
from storage.append import UNAPPLIED
from tests.fixtures_fleet import Member
from tests.fixtures_house import START_MS
from tests.simulation.network import Line
from tests.simulation.world import Hands, Timers, World

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

log = structlog.get_logger("tests.simulation")


class NoWeb:
    """There is nothing but homeservers in this world."""

    async def close(self) -> None: ...


@define(eq=False)
class Machine:
    """See the module's docstring. A `network.Host`."""

    simulation: Simulation
    name: str
    skew_ms: int = 0
    """How wrong its clock is."""
    slowest_s: float = 0.01
    """How long its database may take for something."""
    keeps: int = 0
    """How much state it keeps in memory; 0: the default."""
    timers: Timers | None = None
    """Of the present run; None while it is down."""
    member: Member | None = None
    hands: list[Hands] = field(factory=list)
    line: Line | None = None
    runs: int = 0
    asked: dict[Deferred[Answer], None] = field(factory=dict)
    """Requests that it has not answered yet."""
    announced: list[int] = field(factory=list)
    """Positions of the events that clients were told of as news, over all runs."""
    held_back: set[str] = field(factory=set)
    """Redactions that redacted nothing when they came, over all runs: what they are for was not here, or it was not
    certain that they may."""

    @property
    def world(self) -> World:
        return self.simulation.world

    @property
    def is_up(self) -> bool:
        return self.member is not None

    @property
    def here(self) -> Member:
        assert self.member is not None, f"{self.name} is down"
        return self.member

    def now_ms(self) -> int:
        return START_MS + int(self.world.now * 1000) + self.skew_ms

    # -- its runs ----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        assert self.timers is None
        self.runs += 1
        self.timers = Timers(self.world)
        self._look_at_disk()
        self.member = self.simulation.open(self.name)[0]
        if self.keeps:
            self.member.house.rooms.max_weight = self.keeps
        self.member.house.part(Receiver).door.observers.append(self)
        self.world.note(f"{self.name} is up")

    def accepted(self, accepted: Accepted) -> None:
        """See `homeserver.rooms.accept.Observer`."""
        placed = [new.stored for new in accepted.events if new.stored.position > 0]
        self.announced += [stored.position for stored in placed]
        self.held_back.update(stored.event.event_id for stored in placed if stored.unapplied)

    def _look_at_disk(self) -> None:
        """What was written in the last run, and nobody could be told of any more."""
        path = self.simulation.directory / self.name / "simulated.db"
        if path.exists():
            with closing(sqlite3.connect(path)) as disk:
                found = disk.execute("SELECT event_id FROM events WHERE flags & ?", (UNAPPLIED,)).fetchall()
            self.held_back.update(event_id for (event_id,) in found)

    def surroundings(self) -> dict[str, Any]:
        """See `tests.fixtures_fleet.Fleet.surroundings`."""
        timers = self.timers
        assert timers is not None
        self.line = Line(self.simulation.network, self.name, timers)
        self.hands.clear()

        def hire(size: int, name: str) -> Workers:
            slowest_s = (lambda: self.slowest_s) if name.startswith("storage") else (lambda: 0.001)
            hands = Hands(timers, self.world.dice(self.name, self.runs, name), size, slowest_s)
            self.hands.append(hands)
            return hands

        return {
            "reactor": timers,
            "clock": Clock(timers, self.now_ms),
            "transport": self.line,
            "web": NoWeb(),
            "hire": hire,
            "random": self.world.dice(self.name, self.runs, "random"),
            "outbox": None,
        }

    def crash(self) -> None:
        """The power fails: nothing that is not on disk is left."""
        assert self.timers is not None and self.member is not None
        self.world.note(f"{self.name} crashes")
        self.timers.die()
        database = self.member.house.database
        # What SQLite was told to commit is on disk; closing rolls back what was not.
        for connection in (*database._readers._idle, database._writer._connection):
            connection.close()
        database._engine.close()
        self._down()

    async def stop(self) -> None:
        """Go down in good order."""
        assert self.member is not None
        self.world.note(f"{self.name} goes down")
        member, timers = self.member, self.timers
        self.member = None  # it takes nothing any more
        member.house.hub.close()
        until = self.world.now + GRACE_SECONDS
        while self.asked and self.world.now < until:
            await self.world.sleep(0.1)
        for answer in list(self.asked):
            answer.cancel()
        await member.house.close()
        if timers is not None and self.timers is timers:
            timers.die()
            self._down()

    def _down(self) -> None:
        self.timers = self.member = None
        self.line = None
        asked, self.asked = list(self.asked), {}
        for answer in asked:
            answer.errback(CancelledError())

    # -- what it is asked --------------------------------------------------------------------------------------

    def handle(self, request: Request, who: Requester | None = None) -> Deferred[Answer]:
        """Begin to answer. `who`: where a client asks."""
        member, timers = self.here, self.timers
        assert timers is not None
        serving = Deferred.fromCoroutine(self._serve(member, request, who))
        is_interruptible = request.method == "GET"

        def cancel(answer: Deferred[Answer]) -> None:
            self.asked.pop(answer, None)
            if not timers.is_dead and (is_interruptible or self.member is not member):
                serving.cancel()

        answer: Deferred[Answer] = Deferred(cancel)
        self.asked[answer] = None

        def served(outcome: Answer | Failure) -> None:
            if timers.is_dead or answer.called:
                return
            self.asked.pop(answer, None)
            answer.callback(outcome)

        serving.addBoth(served)
        return answer

    async def _serve(self, member: Member, request: Request, who: Requester | None) -> Answer:
        try:
            return await member.serve(request, who)
        except CancelledError:
            raise
        except Exception:
            log.exception("handler failed", method=request.method, path=request.path, server=self.name)
            return answer_of_error(MatrixError(500, "M_UNKNOWN", "Internal server error"))


@contextmanager
def known_secrets(dice: Random) -> Iterator[None]:
    """What is random for good reasons is known here: ids of rooms and events come out the same in every run."""
    originals: dict[str, Callable[..., Any]] = {
        name: getattr(secrets, name) for name in ("token_bytes", "token_hex", "token_urlsafe", "choice", "randbelow")
    }
    secrets.token_bytes = lambda nbytes=None: dice.randbytes(nbytes or 32)
    secrets.token_hex = lambda nbytes=None: dice.randbytes(nbytes or 32).hex()
    secrets.token_urlsafe = lambda nbytes=None: dice.randbytes(nbytes or 32).hex()
    secrets.choice = dice.choice
    secrets.randbelow = lambda exclusive_upper_bound: dice.randrange(exclusive_upper_bound)
    before = random.getstate()
    random.seed(dice.random())
    try:
        yield
    finally:
        random.setstate(before)
        for name, function in originals.items():
            setattr(secrets, name, function)

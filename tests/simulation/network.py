"""The network between servers: requests take their time, get lost on either way, come twice, or meet a wall.

Every request goes through the other server's route table, gate and signatures as it would come over a connection
(`Member.serve`); only what lies between is made up here. What can go wrong is in `Weather`, which the adversary changes
as it likes, and in `walls`, the pairs of servers that can't reach each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Protocol
from urllib.parse import unquote

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from federation.outbound.transport import BadAnswer, Request, Response, Unreachable
from homeserver.http.answer import Answer
from tests.simulation.world import Timers, World

REMEMBERED = 200
"""Transactions that the adversary may send again."""
TELLING = 40
"""Characters of a path that a line of the story shows."""


@frozen
class Weather:
    """How bad it is. Chances are of each request."""

    latency_s: float = 0.05
    """The longest usual way, in one direction."""
    slow: float = 0.0
    """Chance that a way takes up to `slow_s`: what was sent later comes first."""
    slow_s: float = 20.0
    lost: float = 0.0
    """Chance that the request never arrives; its sender finds out at once, or when its patience ends."""
    unheard: float = 0.0
    """Chance that the answer never arrives, though what was asked is done."""
    doubled: float = 0.0
    """Chance that the request arrives twice, the second time much later perhaps."""


CALM = Weather()


class Host(Protocol):
    """A server as the network sees it."""

    name: str

    @property
    def is_up(self) -> bool: ...

    def handle(self, request: Request) -> Deferred[Answer]:
        """Begin to answer. Fails with CancelledError where the server goes down before it is done; cancelled, it ends
        what may be interrupted.
        """


Meddler = Callable[[str, Request, Response], Response | None]
"""A hostile server's hand on its answers: who asked, what, and what it would answer. None: nothing ever."""


@define(eq=False)
class Network:
    """See the module's docstring."""

    world: World
    hosts: dict[str, Host] = field(factory=dict)
    weather: Weather = CALM
    walls: set[frozenset[str]] = field(factory=set)
    meddlers: dict[str, Meddler] = field(factory=dict)
    sent: deque[tuple[str, Request]] = field(factory=lambda: deque(maxlen=REMEMBERED))
    """Transactions lately, by whom."""
    tell: Callable[[Request, bytes], str] = lambda request, answer: ""
    """What the story says of a request and its answer."""
    under_way: int = 0
    entries: set[str] = field(factory=set)
    """Joins by which servers were handed a room, or would have been had they not gone down: before these it is their
    past, though they may have been in the room as the others see it."""
    _dice: dict[tuple[str, str], Random] = field(factory=dict)

    def dice(self, origin: str, destination: str) -> Random:
        dice = self._dice.get((origin, destination))
        if dice is None:
            dice = self._dice[origin, destination] = self.world.dice("line", origin, destination)
        return dice

    def is_open(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self.walls

    def replay(self, origin: str, request: Request) -> None:
        """Deliver a request again that was delivered long ago."""
        self._deliver(origin, request, None)

    def carry(self, origin: str, request: Request, passage: Passage) -> None:
        """Begin to deliver a request."""
        dice, weather = self.dice(origin, request.destination), self.weather
        if request.method == "PUT" and "/send/" in request.path:
            self.sent.append((origin, request))
        if dice.random() < weather.lost:
            if dice.random() < 0.5:
                self.world.later(self._way(dice), passage.fail, "the connection broke")
            return  # else it waits until its patience ends
        if dice.random() < weather.doubled:
            self.world.later(self._way(dice) + dice.choice((0.1, 5, 120)) * dice.random(), self.replay, origin, request)
        self.world.later(self._way(dice), self._deliver, origin, request, passage)

    def _way(self, dice: Random) -> float:
        longest = self.weather.slow_s if dice.random() < self.weather.slow else self.weather.latency_s
        return 0.001 + longest * dice.random()

    def _deliver(self, origin: str, request: Request, passage: Passage | None) -> None:
        host = self.hosts.get(request.destination)
        dice = self.dice(request.destination, origin)
        if host is None or not host.is_up or not self.is_open(origin, request.destination):
            if passage is not None:
                self.world.later(self._way(dice), passage.fail, "no connection")
            return
        self.under_way += 1
        handling = host.handle(request)
        if passage is not None:
            passage.handling = handling
        handling.addBoth(self._handled, origin, request, passage)

    def _handled(self, outcome: Answer | Failure, origin: str, request: Request, passage: Passage | None) -> None:
        self.under_way -= 1
        dice = self.dice(request.destination, origin)
        if isinstance(outcome, Failure):
            outcome.trap(CancelledError)
            self.note(origin, request, "-", b"")
            if passage is not None:
                self.world.later(self._way(dice), passage.fail, "the connection broke")
            return
        if "/send_join/" in request.path and outcome.status == 200:
            self.entries.add(unquote(request.path.partition("?")[0].rpartition("/")[2]))
        headers = {name.lower(): text for name, text in outcome.headers.items()}
        response: Response | None = Response(outcome.status, headers, outcome.body)
        meddler = self.meddlers.get(request.destination)
        if meddler is not None and response is not None and passage is not None:
            response = meddler(origin, request, response)
        if response is None:
            self.note(origin, request, "nothing", b"")
        else:
            self.note(origin, request, str(response.status), response.body)
        if passage is None or response is None:
            return
        if dice.random() < self.weather.unheard or not self.is_open(origin, request.destination):
            if dice.random() < 0.5:
                self.world.later(self._way(dice), passage.fail, "the connection broke")
            return
        self.world.later(self._way(dice), passage.answer, response)

    def note(self, origin: str, request: Request, outcome: str, answer: bytes) -> None:
        path = request.path.removeprefix("/_matrix/")
        told = path if len(path) <= TELLING else path[:TELLING] + "~"
        # Everything that was said counts for the digest, without filling the story.
        print_ = sha256(request.path.encode() + b"\0" + (request.body or b"")).hexdigest()[:8]
        self.world.note(
            f"{short(origin)} > {short(request.destination)}  {request.method} {told} #{print_} {outcome}",
            lambda: self.tell(request, answer),
        )

    def calm(self) -> None:
        """No more disturbance."""
        self.weather = CALM
        self.walls.clear()

    def worsen(self, **changes: float) -> None:
        self.weather = evolve(self.weather, **changes)


@define(eq=False)
class Passage:
    """A request that somebody waits for."""

    request: Request
    timers: Timers
    """Of who waits: the dead don't hear anything."""
    waiter: Deferred[Response]
    handling: Deferred[Answer] | None = None

    @property
    def is_over(self) -> bool:
        return bool(self.waiter.called) or self.timers.is_dead

    def answer(self, response: Response) -> None:
        if not self.is_over:
            if len(response.body) > self.request.max_bytes:
                self.waiter.errback(BadAnswer(self.request.destination, "an answer larger than asked for"))
            else:
                self.waiter.callback(response)

    def fail(self, why: str) -> None:
        if not self.is_over:
            self.waiter.errback(Unreachable(self.request.destination, why))

    def give_up(self) -> None:
        """Its sender has no patience left, and hangs up."""
        self.fail("no answer")
        if self.handling is not None:
            self.handling.cancel()


@define(eq=False)
class Line:
    """One run of a server's `federation.outbound.transport.Transport`."""

    network: Network
    origin: str
    timers: Timers
    is_closed: bool = False
    waiting: dict[Passage, None] = field(factory=dict)

    async def send(self, request: Request) -> Response:
        if self.is_closed:
            raise Unreachable(request.destination, "this server is going down")
        passage = Passage(request, self.timers, Deferred())
        self.waiting[passage] = None
        patience = self.timers.callLater(request.timeout_s, passage.give_up)
        if not self.timers.is_dead:
            self.network.carry(self.origin, request, passage)
        try:
            return await passage.waiter
        finally:
            self.waiting.pop(passage, None)
            if patience.active():
                patience.cancel()

    async def close(self) -> None:
        self.is_closed = True
        for passage in list(self.waiting):
            passage.fail("this server is going down")


def short(server: str) -> str:
    return server.partition(".")[0]

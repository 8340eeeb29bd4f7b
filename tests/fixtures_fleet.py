"""Several whole servers in the test's own process and thread, on one clock, with memory in the place of the network
between them.

def test_something(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.join("bob", room_id, via=a)
    a.say("alice", room_id, "hello")
    fleet.settle()
    assert b.texts("bob", room_id)[-1] == "hello"

Every request goes through the other server's route table, gate and signatures as it would come over a connection.
What servers tell each other by themselves waits in a post box until `settle` delivers it.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from config import make_settings
from federation.outbound.client import path_to
from federation.outbound.transport import PeerError, Request, Response, Unreachable
from federation.room.auth import auth_types_for
from federation.room.build import build_event
from federation.room.event import Event
from federation.room.signing import SigningKey, write_signing_key
from homeserver.app import House, build, read_key
from homeserver.clock import Clock
from homeserver.errors import MatrixError
from homeserver.http.answer import Answer, answer_of, answer_of_error
from homeserver.http.route import Auth, Requester
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.partial.resync import Resync
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.serve.later import Later
from tests.federation.doubles import pour
from tests.fixtures_house import START_MS, LivedInHouse, StillReactor

T = TypeVar("T")

TICK_MS = 10
"""By so much it is later whenever somebody looks at the clock."""

Meddler = Callable[[str, Request], Request | Response | None]
"""Looks at a request on its way, with who sends it: may put another in its place, answer it, or lose it (None)."""


@define(repr=False)
class PostBox:
    """What one server has for the others: the in-memory `Outbox`."""

    waiting: dict[str, list[Event]] = field(factory=dict)
    """By destination, in order."""
    sent: int = 0

    def send_pdu(self, event: Event, destinations: Collection[str], position: int) -> None:
        for destination in destinations:
            self.waiting.setdefault(destination, []).append(event)


async def whole(answer: Answer) -> bytes:
    """An answer's body, also where it comes out of a source."""
    if answer.source is None:
        return answer.body
    pieces: list[bytes] = []
    while piece := await answer.source.read():
        pieces.append(piece)
    answer.source.close()
    return b"".join(pieces)


@define(repr=False)
class Line:
    """One server's `Transport`."""

    fleet: Fleet
    origin: str

    async def send(self, request: Request) -> Response:
        fleet = self.fleet
        fleet.requests.append((self.origin, request.destination, request.method, request.path.partition("?")[0]))
        if fleet.meddler is not None:
            meddled = fleet.meddler(self.origin, request)
            if isinstance(meddled, Response):
                return await pour(request, meddled)
            if meddled is None:
                raise Unreachable(request.destination, "the line is cut")
            request = meddled
        member = fleet.members.get(request.destination)
        if member is None or {self.origin, request.destination} & fleet.down:
            raise Unreachable(request.destination, "there is no such server")
        if request.destination in fleet.silent:
            await Deferred()
        answer = await member.serve(request)
        if self.origin in fleet.deaf:
            raise Unreachable(request.destination, "the answer got lost")
        headers = {name.lower(): text for name, text in answer.headers.items()}
        return await pour(request, Response(answer.status, headers, await whole(answer)))

    async def close(self) -> None:
        """There is nothing to hang up."""


@define(repr=False)
class Member(LivedInHouse):
    """One server of the fleet. People are named by their localparts, those of other servers by their ids."""

    fleet: Fleet
    name: str
    post: PostBox

    def user(self, name: str) -> str:
        return name if name.startswith("@") else f"@{name}:{self.name}"

    async def serve(self, request: Request, who: Requester | None = None) -> Answer:
        """What the HTTP edge does with a request, without HTTP. `who`: whose it is, where it is a client's."""
        path, _, query = request.path.partition("?")
        house = self.house
        body = request.body or b""
        try:
            match = house.table.match(request.method, path.encode())
            endpoint = match.endpoint
            asker: object = who
            if endpoint.route.auth is Auth.FEDERATION:
                assert house.federation is not None
                header = request.headers.get("Authorization", "")
                asker = await house.federation.gate(request.method, request.path.encode(), header, body)
            assert len(body) <= endpoint.route.max_body
            ask = None
            if endpoint.reader is not None:
                sent = {name.lower(): text for name, text in request.headers.items()}
                headers = {name: sent[name] for name in endpoint.route.headers if name in sent}
                ask = endpoint.reader.read(match.values, query, body if endpoint.reads_body else b"", headers)
            return answer_of(await endpoint.call(asker, ask, None))
        except MatrixError as error:
            return answer_of_error(error)

    # -- in and out --------------------------------------------------------------------------------------------

    def enter(self, name: str, room_id: str, via: Member | None = None) -> None:
        """Join, and let the members come as far as they will."""
        self.enter_partly(name, room_id, via)
        self.rest()

    def enter_partly(self, name: str, room_id: str, via: Member | None = None) -> None:
        """Join, with most of the members left out; they come while others are waited for."""
        servers = [] if via is None else [via.name]
        self.wait(self.memberships.join(room_id, self.user(name), via=servers))

    def rest(self) -> None:
        """Let it do what it has begun about members that were left out."""
        while self.house.part(Resync).asking:
            self.wait(self.house.database.run(lambda cursor: None))

    def invite(self, name: str, target: str, room_id: str) -> None:
        self.wait(self.memberships.invite(room_id, self.user(name), target))

    def knock(self, name: str, room_id: str, via: Member) -> None:
        self.wait(self.memberships.knock(room_id, self.user(name), None, [via.name]))

    def kick(self, name: str, target: str, room_id: str) -> None:
        self.wait(self.memberships.kick(room_id, self.user(name), target))

    def ban(self, name: str, target: str, room_id: str) -> None:
        self.wait(self.memberships.ban(room_id, self.user(name), target))

    # -- what is to be seen ------------------------------------------------------------------------------------

    def room(self, room_id: str) -> LiveRoom:
        return self.wait(self.house.rooms.require(room_id))

    def state_of(self, room_id: str) -> dict[tuple[str, str], str]:
        return {key: ref.event_id for key, ref in self.room(room_id).visible.state.items()}

    def membership(self, name: str, room_id: str) -> str | None:
        return self.room(room_id).membership_of(self.user(name))

    def texts(self, name: str, room_id: str) -> list[str]:
        """What is said in a room as somebody reads it, oldest first."""
        found = self.sync(name)["rooms"]["join"][room_id]["timeline"]["events"]
        return [event["content"].get("body", "") for event in found if event["type"] == "m.room.message"]

    def make(
        self,
        room_id: str,
        sender: str,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
        prev: Sequence[str] | None = None,
        **more: Any,
    ) -> Event:
        """An event in this server's name on the room as this server sees it, which nobody else has judged."""
        room = self.room(room_id)
        state = room.visible.state
        wanted = auth_types_for(
            room.version, type=event_type, sender=self.user(sender), state_key=state_key, content=content
        )
        arguments: dict[str, Any] = {
            "room_id": room_id,
            "type": event_type,
            "sender": self.user(sender),
            "content": content,
            "state_key": state_key,
            "prev_events": list(room.visible.head.extremities) if prev is None else list(prev),
            "auth_events": [state[key].event_id for key in wanted if key in state],
            "depth": room.visible.head.depth + 1,
            "origin_server_ts": self.house.clock.now_ms(),
            "server_name": self.name,
            "key": read_key(self.house.settings),
            **more,
        }
        return build_event(room.version, **arguments)

    def receive(self, origin: str, room_id: str, *raws: bytes) -> list[str]:
        """What becomes of events that another server sends."""
        verdicts = self.wait(self.house.part(Receiver).receive(origin, room_id, raws))
        return [verdict.outcome for verdict in verdicts]

    def ask(self, other: Member, method: str, path: str, body: object = None, **query: str) -> Any:
        """A signed request to another server. Gives the parsed answer; raises PeerError."""
        assert self.house.federation is not None
        client = self.house.federation.client
        target = path_to(path.replace("{", "{{").replace("}", "}}"), query=list(query.items()))
        return orjson.loads(self.wait(client.request(method, other.name, target, body=body)).body)


@define(repr=False)
class Fleet:
    """The servers, and the lines between them."""

    directory: Path
    new_database: Callable[[str], str]
    reactor: StillReactor = field(factory=StillReactor)
    members: dict[str, Member] = field(factory=dict)
    down: set[str] = field(factory=set)
    """Servers that can neither reach others nor be reached."""
    silent: set[str] = field(factory=set)
    """Servers that take requests and never answer."""
    deaf: set[str] = field(factory=set)
    """Servers that never hear the answers to what they ask."""
    requests: list[tuple[str, str, str, str]] = field(factory=list)
    """Who asked whom for what: origin, destination, method, path."""
    meddler: Meddler | None = None
    has_couriers: bool = False
    """Servers opened from now on send by themselves, as outside of tests, and have no post box: see `run`."""
    federation: dict[str, dict[str, Any]] = field(factory=dict)
    """Settings of that section, by server; for servers that are opened from now on."""
    rate_limits: dict[str, Any] = field(factory=dict)
    """Of servers that are opened from now on; without any they have none."""
    media_settings: dict[str, Any] = field(factory=dict)
    """Of servers that are opened from now on."""
    web: Any = None
    """What is elsewhere, for servers that are opened from now on; None is the real web."""
    _urls: dict[str, str] = field(factory=dict)
    """Of the databases, by server."""
    _ticks: Iterator[int] = field(factory=lambda: iter(range(START_MS, START_MS + 10**12, TICK_MS)))

    def open(self, *names: str) -> list[Member]:
        """Open servers `name.example`."""
        return [self._open(f"{name}.example") for name in names]

    def restart(self, member: Member) -> Member:
        """Close a server and open it again, with nothing but what is on disk and in the post."""
        self.wait(member.house.close())
        again = self._open(member.name)
        again.post.waiting, again.post.sent = member.post.waiting, member.post.sent
        return again

    def crash(self, member: Member) -> Member:
        """The same without a moment in which what is on its way could be written down."""
        if member.house.sending is not None:
            member.house.sending.sender._has_recovered = False  # then it keeps no books
        return self.restart(member)

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.reactor.wait(awaitable)

    def settle(self) -> None:
        """Deliver what waits, until nobody has anything to say any more. What can't be delivered is kept."""
        progress = True
        while progress:
            progress = False
            for member in list(self.members.values()):
                member.rest()
                progress |= self._deliver(member)

    def run(self, seconds: float, step_s: float = 0.5) -> None:
        """Let time pass, and everybody do in it what has no one waiting for it."""
        while seconds > 0:
            self.reactor.timers.advance(min(seconds, step_s))
            for _ in range(int(min(seconds, step_s) * 1000) // TICK_MS):
                next(self._ticks)
            seconds -= step_s
            self.reactor.timers.advance(0)
            while not self.reactor.is_idle:
                self.reactor.drain()
                self.reactor.timers.advance(0)

    def skip_ms(self, milliseconds: int) -> None:
        """Let the date go on, without what timers would do meanwhile."""
        self._ticks = iter(range(next(self._ticks) + milliseconds, START_MS + 10**12, 10))

    def asked(self, part: str) -> list[tuple[str, str]]:
        """Who asked whom, of all requests with that in their path."""
        return [(origin, destination) for origin, destination, _, path in self.requests if part in path]

    def close(self) -> None:
        for member in self.members.values():
            self.wait(member.house.close())

    def _deliver(self, member: Member) -> bool:
        progress = False
        for destination in sorted(member.post.waiting):
            events = member.post.waiting[destination]
            while events:
                batch = events[:50]
                member.post.sent += 1
                body = {
                    "origin": member.name,
                    "origin_server_ts": START_MS,
                    "pdus": [orjson.loads(event.raw) for event in batch],
                }
                assert member.house.federation is not None
                client = member.house.federation.client
                path = path_to("/_matrix/federation/v1/send/{}", f"t{member.post.sent}")
                try:
                    self.wait(client.put(destination, path, into=dict[str, Any], body=body))
                except PeerError:
                    break
                del events[: len(batch)]
                progress = True
        return progress

    def _open(self, name: str) -> Member:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        if name not in self._urls:
            self._urls[name] = self.new_database(name)
        key = directory / "signing.key"
        if not key.exists():
            key.write_text(write_signing_key(SigningKey.generate("test")))
        settings = make_settings(
            {
                "profile": "test",
                "server": {"name": name, "data_dir": str(directory), "signing_key_path": str(key)},
                "database": {"url": self._urls[name]},
                "federation": self.federation.get(name, {}),
                "media": self.media_settings,
                "rate_limits": self.rate_limits,
            }
        )
        surroundings = self.surroundings(name)
        house: House = build(settings, surroundings.pop("reactor"), **surroundings)
        post = surroundings["outbox"] or PostBox()
        member = self.members[name] = self.make_member(house, name, post)
        return member

    def surroundings(self, name: str) -> dict[str, Any]:
        """What a server has in the place of the world, by the names that `homeserver.app.build` has for it."""
        return {
            "reactor": self.reactor,
            "clock": Clock(self.reactor.timers, lambda: next(self._ticks)),
            "transport": Line(self, name),
            "web": self.web,
            "hire": self.reactor.hire,
            "outbox": None if self.has_couriers else PostBox(),
        }

    def make_member(self, house: House, name: str, post: PostBox) -> Member:
        """Let a server that was just built begin."""
        assert house.federation is not None
        self.wait(house.federation.start())
        self.wait(house.encryption.start())
        self.wait(house.part(Resync).start())
        self.wait(house.part(Later).start())
        if house.sending is not None:
            self.wait(house.sending.start())
        return Member(house, self.reactor, self, name, post)


F = TypeVar("F", bound=Fleet)


@pytest.fixture
def fleet(tmp_path: Path, sqlite_model: Path) -> Iterator[Fleet]:
    """A fleet on SQLite."""
    found = fleet_on_sqlite(tmp_path, sqlite_model, Fleet)
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A fleet on SQLite, and one on PostgreSQL: a test with it runs twice."""
    urls: list[str] = []
    if request.param == "sqlite":
        found = fleet_on_sqlite(tmp_path, request.getfixturevalue("sqlite_model"), Fleet)
    else:
        server = request.getfixturevalue("postgres")

        def new_database(name: str) -> str:
            urls.append(server.made_database())
            return urls[-1]

        found = Fleet(tmp_path, new_database)
    yield found
    found.close()
    for url in urls:
        server.rest_database(url)


def fleet_on_sqlite(directory: Path, model: Path, kind: type[F]) -> F:
    def new_database(name: str) -> str:
        file = directory / name / "fleet.db"
        file.parent.mkdir(exist_ok=True)
        shutil.copyfile(model, file)
        return f"sqlite:///{file}"

    return kind(directory, new_database)

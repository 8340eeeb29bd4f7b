"""One client's connection, from its first message to its last.

    opened ── identify ──> known ──┬── what happened: read from its place on, written while the client takes it
       │                           ├── calls: one after the other, in the order in which they came
       └── 10 s: 4001              └── ends: a close code, or the client is gone; its place is the client's to keep

A place is `seq`: eight times a position of the stream, plus which of the (few) things that were said of it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Awaitable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import orjson
import structlog
from attrs import define, field
from twisted.internet.defer import CancelledError

from homeserver.clock import Clock
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.errors import BadJson, LimitExceeded, MatrixError, Unavailable, UnknownToken
from homeserver.gateway.calls import Calls
from homeserver.gateway.codes import (
    BROKEN,
    NO_GUESTS,
    NO_ROOM,
    NOT_AUTHENTICATED,
    NOT_JSON,
    NOT_KNOWN,
    PUT_OUT,
    TOO_MANY,
    TOO_MANY_CONNECTIONS,
    TOO_SLOW,
    Close,
)
from homeserver.gateway.stream import Place, Stream, TooFar
from homeserver.http.asks import parse_object
from homeserver.http.authenticate import Authenticate
from homeserver.http.limits import RateLimiter, address_key
from homeserver.http.route import Requester, RequestInfo
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Feed, Hub
from homeserver.sync.feeds import FeedLoader
from homeserver.tasks import Tasks
from storage.errors import Outage

if TYPE_CHECKING:
    from homeserver.gateway.lobby import Lobby

MOST_WAITING = 16
"""Calls that came and were not begun; with more the client is not listened to."""
MOST_INTENTS = 64
PING_MS = 40_000
"""What `ready` says: who hears nothing for longer may ask whether the server is there. So does the server."""
PRESENT_MS = 60_000
"""How long somebody counts as here after the last look."""

_log = structlog.get_logger("homeserver.gateway")

PING = b'{"op":"ping"}'
PONG = b'{"op":"pong"}'
INVALID_SESSION = b'{"op":"invalid_session"}'


class Line(Protocol):
    """What a connection speaks through: `homeserver.gateway.socket`."""

    @property
    def is_full(self) -> bool:
        """The client has not taken what was written last."""

    def send(self, payload: bytes) -> None: ...

    def hold(self, is_held: bool) -> None: ...

    def admit(self) -> None: ...

    def close(self, why: Close) -> None: ...

    def abort(self) -> None: ...


class Resume(msgspec.Struct, frozen=True):
    session: str
    seq: int


class Identify(msgspec.Struct, frozen=True):
    """A client's first message."""

    op: Literal["identify"]
    token: str
    intents: list[str] | None = None
    resume: Resume | None = None


class Call(msgspec.Struct, frozen=True):
    op: Literal["call"]
    id: str | int
    method: str
    params: dict[str, Any] = {}


class Services(msgspec.Struct, frozen=True):
    """What connections need of the house."""

    clock: Clock
    hub: Hub
    feeds: FeedLoader
    rooms: Rooms
    authenticate: Authenticate
    limits: RateLimiter
    presence: PresenceBoard
    tasks: Tasks
    stream: Stream
    calls: Calls


@define(eq=False, slots=True)
class Connection:
    """See the module's docstring. Implements `homeserver.gateway.socket.Listener` and `hub.Follower`."""

    _lobby: Lobby
    _services: Services
    _info: RequestInfo
    _room_id: str | None
    """The room that it was opened for."""
    line: Line = field(init=False)
    who: Requester | None = field(default=None, init=False)
    heard_at: float = field(init=False)
    """When the client last said something whole, in seconds by the reactor's clock."""
    session: str = field(default="", init=False)
    _token: str = field(default="", init=False)
    _intents: frozenset[str] | None = field(default=None, init=False)
    _feed: Feed | None = field(default=None, init=False)
    _place: Place = field(default=Place(0, 0, 0), init=False)
    _early: list[Mapping[str, Any]] | None = field(default=None, init=False)
    """What came while it was found out who the client is; None before that, and empty for good after it."""
    _is_over: bool = field(default=False, init=False)
    _is_reading: bool = field(default=False, init=False)
    _asked_at: float = field(default=0.0, init=False)
    _full_since: float | None = field(default=None, init=False)
    _waiting: deque[Call] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.heard_at = self._services.clock.timers.seconds()

    # -- what the socket tells ---------------------------------------------------------------------------------

    def opened(self) -> None:
        self._lobby.enter(self)

    def stirred(self) -> None:
        self.heard_at = self._services.clock.timers.seconds()

    def filled(self) -> None:
        self._full_since = self._services.clock.timers.seconds()
        self.line.hold(True)

    def drained(self) -> None:
        self._full_since = None
        self._listen()
        self.changed()

    def closed(self) -> None:
        self._over()
        self._lobby.leave(self)

    def heard(self, payload: bytes) -> None:
        """A message of the client's."""
        if self._is_over:
            return
        if self.who is not None:
            self.heard_at = self._services.clock.timers.seconds()
            try:
                self._services.limits.charge("gateway", self.who.user_id)
            except LimitExceeded:
                self.end(TOO_MANY)
                return
        try:
            message = parse_object(payload)
        except BadJson:
            self.end(NOT_JSON)
            return
        if self.session:
            self._understand(message)
        elif self._early is None:
            self._greet(message)
        elif len(self._early) < MOST_WAITING:
            self._early.append(message)
        else:
            self.end(TOO_MANY)

    def _understand(self, message: Mapping[str, Any]) -> None:
        match message.get("op"):
            case "call":
                self._queue(message)
            case "ping":
                self.line.send(PONG)
            case "pong":
                pass
            case _:
                self.end(NOT_KNOWN)

    # -- the first message -------------------------------------------------------------------------------------

    def _greet(self, message: Mapping[str, Any]) -> None:
        if message.get("op") != "identify":
            self.end(NOT_AUTHENTICATED)
            return
        try:
            ask = msgspec.convert(message, Identify)
        except msgspec.ValidationError:
            self.end(NOT_KNOWN)
            return
        if ask.intents is not None and len(ask.intents) > MOST_INTENTS:
            self.end(NOT_KNOWN)
            return
        self._early = []
        self._spawn(self._identify(ask))

    async def _identify(self, ask: Identify) -> None:
        services = self._services
        try:
            who = services.authenticate.recall(ask.token) or await services.authenticate.find(ask.token)
        except UnknownToken:
            # As over HTTP: guessing costs a look into the database each.
            self._charge_address()
            self.end(NOT_AUTHENTICATED)
            return
        if self._is_over:
            return
        if who.is_guest:
            self.end(NO_GUESTS)
            return
        if not self._lobby.has_place(who.user_id):
            self.end(TOO_MANY_CONNECTIONS)
            return
        services.authenticate.note_use(who, lambda: self._info)
        self._token, self.who = ask.token, who
        self._intents = None if ask.intents is None else frozenset(ask.intents)
        self._lobby.know(self, who.user_id)
        self.heard_at = services.clock.timers.seconds()
        self.line.admit()
        services.presence.seen(who.user_id, None, who.device_id, PRESENT_MS)
        feed = await services.feeds.get(who.user_id)
        if self._has_ended():
            return
        feed.followers.append(self)
        self._feed = feed
        if self._room_id is not None and not await self._is_inside(self._room_id):
            self.end(NO_ROOM)
            return
        await self._begin(who, feed, ask.resume)
        early, self._early = self._early or [], []
        for message in early:
            if not self._has_ended():
                self._understand(message)

    async def _begin(self, who: Requester, feed: Feed, resume: Resume | None) -> None:
        hub = self._services.hub
        if resume is not None:
            place = Place.of(resume.seq)
            if not is_session_of(resume.session, who) or place is None or place.position > hub.position:
                self.line.send(INVALID_SESSION)
            elif await self._catch_up(who, feed, place, resume.session):
                return
        self._place = Place.at_end(hub.position, hub.serial)
        greeting = await self._services.calls.greeting(who)
        self.session = new_session(who)  # only now: nothing is told before `ready`
        self._send({"op": "ready", "session": self.session, "seq": self._place.seq, "ping_ms": PING_MS, **greeting})
        self.changed()

    async def _catch_up(self, who: Requester, feed: Feed, place: Place, session: str) -> bool:
        """Go on from where the client was. False where that is too long ago."""
        try:
            news = await self._services.stream.read(who, feed, place)
        except TooFar:
            self.line.send(INVALID_SESSION)
            return False
        self.session, self._place = session, place
        if self._say(news.events):
            self._place = news.place
        self._note()
        self._lobby.returned(who)
        self.changed()
        return True

    async def _is_inside(self, room_id: str) -> bool:
        room = await self._services.rooms.get(room_id)
        return room is not None and self.who is not None and room.membership_of(self.who.user_id) == "join"

    def _charge_address(self) -> None:
        with contextlib.suppress(LimitExceeded):  # it ends anyway, and to come again is charged too
            self._services.limits.charge("anonymous", address_key(self._info.address))

    # -- what happened -----------------------------------------------------------------------------------------

    def changed(self) -> None:
        """There may be something new, or room for it (`homeserver.streams.hub.Follower`)."""
        if not self._is_reading and self.session and not self._is_over and not self.line.is_full:
            self._is_reading = True
            self._spawn(self._read())

    async def _read(self) -> None:
        """Say what happened since the connection's place, as long as the client takes it."""
        feed, who, hub = self._feed, self.who, self._services.hub
        assert feed is not None and who is not None
        try:
            while not self._is_over and not self.line.is_full:
                marks = feed.marks
                if self._place.is_at(hub.position, hub.serial):
                    break
                news = await self._services.stream.read(who, feed, self._place)
                if self._say(news.events):
                    self._place = news.place
                self._note()
                if self._room_id is not None and not await self._is_inside(self._room_id):
                    self.end(PUT_OUT)
                    break
                if feed.marks == marks:
                    break
        except TooFar:
            self.end(TOO_SLOW)
        finally:
            self._is_reading = False

    def _say(self, events: list[tuple[Place, str, bytes]]) -> bool:
        """Write what the client wants to hear, in order. False where it took no more: its place is after the last."""
        line, intents = self.line, self._intents
        for place, family, body in events:
            if line.is_full or self._is_over:
                return False
            if intents is None or family in intents:
                line.send(b'{"op":"event","seq":%d,%b}' % (place.seq, body))
            self._place = place
        return True

    def _note(self) -> None:
        """Messages that were written have come to the device."""
        if self.who is not None and (self._intents is None or "message" in self._intents):
            self._services.stream.took(self.who, self._place)

    # -- calls -------------------------------------------------------------------------------------------------

    def _queue(self, message: Mapping[str, Any]) -> None:
        try:
            call = msgspec.convert(message, Call)
        except msgspec.ValidationError as error:
            call_id = message.get("id")
            if type(call_id) in (str, int):
                self._answer_error(call_id, BadJson(str(error)))
            else:
                self.end(NOT_KNOWN)
            return
        if self._waiting is not None:
            self._waiting.append(call)
            if len(self._waiting) >= MOST_WAITING:
                self.line.hold(True)
            return
        self._waiting = deque([call])
        self._spawn(self._work())

    async def _work(self) -> None:
        """Do what is asked, one call after the other."""
        waiting = self._waiting
        assert waiting is not None and self.who is not None
        try:
            while waiting and not self._is_over:
                call = waiting.popleft()
                if len(waiting) == MOST_WAITING - 1:
                    self._listen()
                try:
                    answer = await self._services.calls.do(self, self.who, call.method, call.params, self._info)
                except MatrixError as error:
                    self._answer_error(call.id, error)
                except (CancelledError, GeneratorExit):
                    raise
                except Outage:
                    self._answer_error(call.id, Unavailable("The server can't reach its database; try again later"))
                except Exception:
                    _log.exception("call failed", method=call.method[:100])
                    self._answer_error(call.id, MatrixError(500, "M_UNKNOWN", "Internal server error"))
                else:
                    self._send({"op": "result", "id": call.id, "ok": orjson.Fragment(answer)})
        finally:
            self._waiting = None

    def _answer_error(self, call_id: object, error: MatrixError) -> None:
        body = {"errcode": error.errcode, "error": error.error, **error.more}
        self._send({"op": "result", "id": call_id, "error": body})

    def _listen(self) -> None:
        """Take more from the client, if nothing stands against it."""
        if not self.line.is_full and (self._waiting is None or len(self._waiting) < MOST_WAITING):
            self.line.hold(False)

    # -- looks, and the end ------------------------------------------------------------------------------------

    def is_stalled(self, since: float) -> bool:
        return self._full_since is not None and self._full_since < since

    def look(self, now: float, *, looks_at_token: bool) -> None:
        """Now and then: is the client there, and does its token still hold?"""
        assert self.who is not None
        if looks_at_token:
            self._services.presence.seen(self.who.user_id, None, self.who.device_id, PRESENT_MS)
            if self._services.authenticate.recall(self._token) is None:
                self._spawn(self._check_token())
        if now - self.heard_at >= PING_MS / 1000 and now - self._asked_at >= PING_MS / 1000:
            self._asked_at = now
            self.line.send(PING)

    async def _check_token(self) -> None:
        try:
            await self._services.authenticate.find(self._token)
        except UnknownToken:
            self.end(NOT_AUTHENTICATED)

    def end(self, why: Close) -> None:
        """Close, and say why."""
        if not self._is_over:
            self._over()
            self.line.close(why)

    def abort(self) -> None:
        self._over()
        self.line.abort()

    def _has_ended(self) -> bool:
        """Asked after a wait."""
        return self._is_over

    def _over(self) -> None:
        self._is_over = True
        if self._feed is not None and self in self._feed.followers:
            self._feed.followers.remove(self)

    def push(self, kind: str, data: Mapping[str, Any]) -> None:
        """Say something that has no place in the stream, now or never."""
        if self.session and not self._is_over:
            family = kind.partition(".")[0]
            if self._intents is None or family in self._intents:
                self._send({"op": "event", "seq": self._place.seq, "type": kind, "data": data})

    def _send(self, message: Mapping[str, Any]) -> None:
        if not self._is_over:
            self.line.send(orjson.dumps(message))

    def _spawn(self, work: Awaitable[None]) -> None:
        self._services.tasks.spawn("gateway", self._guard(work))

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Outage as error:
            _log.warning("no database", why=str(error))
            self.end(BROKEN)
        except Exception:
            self.end(BROKEN)
            raise


def new_session(who: Requester) -> str:
    """A name for what a device may come back to. It says whose it is and nothing else, so nothing is kept of it."""
    nonce = secrets.token_urlsafe(9)
    return f"{nonce}.{_mark(nonce, who)}"


def is_session_of(session: str, who: Requester) -> bool:
    """Whether it is one of this device's. To make one up gains nothing: what is read is what its owner may see."""
    nonce, _, mark = session.partition(".")
    return mark == _mark(nonce, who)


def _mark(nonce: str, who: Requester) -> str:
    named = "\0".join((nonce, who.user_id, who.device_id))
    return blake2b(named.encode("utf-8", "replace"), digest_size=9).hexdigest()

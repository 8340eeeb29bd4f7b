"""The process behind `lines.py`. It stands where servers' names lead, takes HTTPS there, and passes each request on to
the server itself, with whatever fault the line has just then.

    a peer ── TLS ──> where the name leads: this process ── HTTP ──> the server, at 127.0.0.1
                                 ▲
            who runs the harness ── HTTP: /open /fault /mend /passages

Because TLS ends here, it knows who asks whom (X-Matrix) and can disturb one direction between two servers and no other.
"""

# Much of twisted.web has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from config import Tls
from federation.service import service
from homeserver.harness.faults import Fault, Kind, NewLine, Passage, Passages
from homeserver.http.tls import make_tls
from homeserver.tasks import Tasks

REMEMBERED = 50_000
"""Passages that can be asked for."""
_ORIGIN = re.compile(rb'\borigin="?([^",\s]+)', re.IGNORECASE)
_HOP_BY_HOP = {b"connection", b"transfer-encoding", b"content-length", b"keep-alive", b"upgrade", b"te", b"trailer"}


@define(eq=False)
class Board:
    """What all lines have in common: their faults, and what came over them."""

    _faults: dict[str, tuple[Fault, int]] = field(factory=dict)
    """By the name that was given to it: the fault, and how many requests it has met."""
    _passages: deque[Passage] = field(factory=lambda: deque(maxlen=REMEMBERED))
    _passed: int = 0
    _held: list[tuple[Fault, Deferred[None]]] = field(factory=list)
    """Requests that wait for the end of their fault."""

    def put(self, name: str, fault: Fault) -> None:
        self._faults[name] = (fault, 0)

    def mend(self, name: str) -> None:
        fault, _ = self._faults.pop(name, (None, 0))
        held, self._held = self._held, []
        for one, waiter in held:
            if one is fault:
                waiter.callback(None)
            else:
                self._held.append((one, waiter))

    def hold(self, fault: Fault) -> Deferred[None]:
        """Fires when the fault is mended."""
        waiter: Deferred[None] = Deferred()
        self._held.append((fault, waiter))
        return waiter

    def passed(self, passage: Passage) -> None:
        self._passages.append(passage)
        self._passed += 1

    def since(self, number: int) -> Passages:
        """What came after the first `number`, as far as it is remembered."""
        first = self._passed - len(self._passages)
        return Passages(self._passed, list(islice(self._passages, max(number - first, 0), None)))

    def meet(self, origin: str | None, destination: str, path: str) -> Fault | None:
        """The fault that a request has to do with: the first that fits and is not used up."""
        for name, (fault, met) in self._faults.items():
            if fault.fits(origin, destination, path) and (fault.times is None or met < fault.times):
                self._faults[name] = (fault, met + 1)
                return fault
        return None


@service
class Line(Resource):
    """Where one server is found by the others."""

    isLeaf = True
    _new: NewLine
    _board: Board
    _agent: Agent
    _tasks: Tasks
    _reactor: Any

    def render(self, request: Request) -> int:
        self._tasks.spawn("a passage", self._pass(request))
        return NOT_DONE_YET

    async def _pass(self, request: Request) -> None:
        path, _, query = request.uri.partition(b"?")
        found = _ORIGIN.search(request.getHeader(b"authorization") or b"")
        origin = found[1].decode("latin-1") if found is not None else None
        fault = self._board.meet(origin, self._new.destination, path.decode("latin-1"))
        status = await self._carry(request, fault)
        passage = Passage(
            origin,
            self._new.destination,
            request.method.decode("latin-1"),
            path.decode("latin-1"),
            query.decode("latin-1"),
            status,
            fault.kind if fault is not None else None,
        )
        self._board.passed(passage)

    async def _carry(self, request: Request, fault: Fault | None) -> int | None:
        """Pass a request on and its answer back. Gives the status that went back."""
        gone: list[object] = []
        request.notifyFinish().addBoth(gone.append)
        kind = fault.kind if fault is not None else None
        if kind is Kind.REFUSE:
            request.channel.forceAbortClient()
            return None
        if kind is Kind.DROP:
            return None
        if fault is not None and kind is Kind.DELAY:
            await deferLater(self._reactor, fault.delay_ms / 1000, lambda: None)
        if fault is not None and kind is Kind.HOLD:
            await self._board.hold(fault)
        body = _body_of(request)
        if kind is Kind.CORRUPT and body:
            body = _another_byte(body)
        status, headers, answer = await self._ask(request, body)
        if gone:
            return None
        if kind is Kind.LOSE:
            request.channel.forceAbortClient()
            return None
        if kind is Kind.CORRUPT and not body:
            answer = _another_byte(answer)
        request.setResponseCode(status)
        for name, values in headers.getAllRawHeaders():
            if name.lower() not in _HOP_BY_HOP:
                request.responseHeaders.setRawHeaders(name, values)
        request.setHeader(b"content-length", str(len(answer)).encode())
        if kind is Kind.CUT:
            request.write(answer[: len(answer) // 2])
            request.channel.loseConnection()
            return None
        request.write(answer)
        request.finish()
        return status

    async def _ask(self, request: Request, body: bytes) -> tuple[int, Headers, bytes]:
        if self._new.well_known is not None and request.uri == b"/.well-known/matrix/server":
            answer = msgspec.json.encode({"m.server": self._new.well_known})
            return 200, Headers({b"content-type": [b"application/json"]}), answer
        headers = Headers()
        for name, values in request.requestHeaders.getAllRawHeaders():
            if name.lower() not in _HOP_BY_HOP:
                headers.setRawHeaders(name, values)
        uri = b"http://127.0.0.1:%d%s" % (self._new.backend, request.uri)
        try:
            response = await self._agent.request(request.method, uri, headers, _Body(body))
            gather = _Gather()
            response.deliverBody(gather)
            return response.code, response.headers, await gather.whole
        except Exception as error:  # Twisted has a dozen kinds; whoever asks hears of a gateway, as behind any proxy
            return 502, Headers(), repr(error).encode()


class _Gather(Protocol):
    """Takes a body whole. `readBody` would do it, but warns on every answer."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.whole: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)


def _body_of(request: Request) -> bytes:
    assert request.content is not None  # it is there from when the request is whole
    body: bytes = request.content.read()
    return body


def _another_byte(data: bytes) -> bytes:
    """The middle byte with another lowest bit: what was JSON mostly stays JSON, and is not what was signed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"?"


@implementer(IBodyProducer)
@frozen(eq=False)
class _Body:
    """A body that is there already."""

    _data: bytes

    @property
    def length(self) -> int:
        return len(self._data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is all written already."""

    def resumeProducing(self) -> None:
        """The same."""

    def stopProducing(self) -> None:
        """The same."""


@frozen(eq=False)
class Control(Resource):
    """What the harness says to this process."""

    isLeaf = True
    _board: Board
    _open: Callable[[NewLine], None]

    def render_GET(self, request: Request) -> bytes:
        """`/passages`: what came over the lines, oldest first; all, or `?since=` the `next` of an earlier answer."""
        request.setHeader(b"content-type", b"application/json")
        number = request.args.get(b"since", [b"0"])[0]
        return msgspec.json.encode(self._board.since(int(number) if number.isdigit() else 0))

    def render_POST(self, request: Request) -> bytes:
        """`/open` a line, put a `/fault/NAME` on lines, or take it away: `/mend/NAME`."""
        _, verb, *names = request.path.decode().split("/")
        body = _body_of(request)
        try:
            match verb, names:
                case "open", []:
                    self._open(msgspec.json.decode(body, type=NewLine))
                case "fault", [name]:
                    self._board.put(name, msgspec.json.decode(body, type=Fault))
                case "mend", [name]:
                    self._board.mend(name)
                case _:
                    request.setResponseCode(404)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            request.setResponseCode(400)
            return f"{error}\n".encode()
        return b"{}\n"


class _UntilItEnds(Protocol):
    """Stdin: says when it ends."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended()


def main() -> None:
    """Serve until stdin ends, as it does when whoever started this is gone. The first line on stdout is the port for
    orders."""
    from homeserver.reactor import install_reactor

    install_reactor()
    from twisted.internet import reactor as anything
    from twisted.internet.stdio import StandardIO

    reactor: Any = anything
    board, tasks = Board(), Tasks()
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = 50
    agent = Agent(reactor, pool=pool)

    def open_line(new: NewLine) -> None:
        tls = make_tls(Tls(certificate_path=Path(new.certificate_path), key_path=Path(new.key_path)))
        site = Site(Line(new, board, agent, tasks, reactor))
        reactor.listenSSL(new.port, site, tls, interface=new.host)

    port = reactor.listenTCP(0, Site(Control(board, open_line)), interface="127.0.0.1")
    StandardIO(_UntilItEnds(reactor.stop))
    sys.stdout.write(f"{port.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()

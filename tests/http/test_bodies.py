"""Long bodies at the edge: what is uploaded comes in as fast as it is taken, what is sent goes out as it is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.protocols.tls import TLSMemoryBIOProtocol

from homeserver.errors import Forbidden
from homeserver.http.bodies import HOLD, PIECE, IncomingBody
from homeserver.http.exchange import SMALL_BODY
from homeserver.http.route import FEDERATION, NONE, USER, Reply, Requester, route
from homeserver.http.site import IDLE_SECONDS, LEAST_BYTES_A_SECOND, REQUEST_SECONDS, STALLED_SECONDS
from homeserver.http.table import BadRoute, RouteTable
from homeserver.http.tap import Tap
from tests.http.wire import Connection, Wire, one_a_minute, request

LIMIT = 10 * PIECE


@define
class Pieces:
    """A source of given pieces; a Deferred among them is waited for."""

    parts: list[Any]
    length: int
    closed: int = 0

    async def read(self) -> bytes:
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, Exception):
            raise part
        found: bytes = await part if isinstance(part, Deferred) else part
        return found

    def close(self) -> None:
        self.closed += 1


@define
class Desk:
    """Where uploads arrive, and what is to be had."""

    pieces: list[bytes] = field(factory=list)
    outcome: str = "waiting"
    may_read: Deferred[None] | None = None
    """Waited for before each read, where there is one."""
    limit: int = LIMIT
    asked: Any = None
    source: Pieces = field(factory=lambda: Pieces([b"hello ", b"world"], 11))


class Ask(msgspec.Struct):
    name: str
    filename: str | None = None
    content_type: str | None = None


class House:
    @staticmethod
    @route("PUT", "/up/{name}", auth=USER, rate="read", max_body=LIMIT, query=["filename"], headers=["content-type"])
    async def upload(desk: Desk, who: Requester, ask: Ask, body: IncomingBody) -> dict[str, int]:
        desk.asked = ask
        body.limit(desk.limit)
        try:
            while True:
                if desk.may_read is not None:
                    await desk.may_read
                pieces = await body.read()
                if not pieces:
                    break
                desk.pieces += pieces
        except CancelledError:
            desk.outcome = "gone"
            raise
        desk.outcome = "done"
        return {"size": body.received}

    @staticmethod
    @route("POST", "/refuses", auth=USER, rate=None, max_body=LIMIT)
    async def refuses(desk: Desk, who: Requester, body: IncomingBody) -> None:
        await body.read(1)
        raise Forbidden("Not this")

    @staticmethod
    @route("GET", "/down", auth=USER, rate=None)
    async def download(desk: Desk, who: Requester) -> Reply:
        return Reply(headers={"Content-Type": "text/plain"}, source=desk.source)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def wire(desk: Desk) -> Wire:
    return Wire.to([House], {Desk: desk})


def start(
    wire: Wire, headers: str, path: str = "/up/x", token: str | None = "alice", method: str = "PUT"
) -> Connection:
    connection = wire.connect()
    credentials = f"Authorization: Bearer {token}\r\n" if token else ""
    connection.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{credentials}{headers}\r\n\r\n".encode())
    return connection


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# Coming in


def test_a_body_in_pieces(wire: Wire, desk: Desk) -> None:
    connection = start(wire, f"Content-Type: image/png\r\nContent-Length: {3 * PIECE}", "/up/x?filename=a%20b")
    for number in range(6):
        connection.send(bytes([number]) * (PIECE // 2))
    (response,) = connection.responses()
    assert (response.status, response.json) == (200, {"size": 3 * PIECE})
    assert b"".join(desk.pieces) == b"".join(bytes([number]) * (PIECE // 2) for number in range(6))
    assert desk.asked == Ask("x", "a b", "image/png")
    connection.send(request("PUT", "/up/y", b"more", token="alice"))
    assert connection.responses()[0].json == {"size": 4}, "the connection lives on"
    assert not wire.site.exchanges


@given(st.lists(st.binary(max_size=PIECE), max_size=6), st.booleans(), st.integers(1, 7))
def test_whatever_is_sent_arrives(parts: list[bytes], chunked: bool, cut: int) -> None:
    desk = Desk()
    wire = Wire.to([House], {Desk: desk})
    sent = b"".join(parts)
    if chunked:
        connection = start(wire, "Transfer-Encoding: chunked")
        body = b"".join(chunk(part) for part in parts if part) + b"0\r\n\r\n"
    else:
        connection = start(wire, f"Content-Length: {len(sent)}")
        body = sent
    step = max(1, len(body) // cut)
    for place in range(0, len(body), step):
        connection.send(body[place : place + step])
    assert connection.responses()[0].json == {"size": len(sent)}
    assert b"".join(desk.pieces) == sent
    assert desk.outcome == "done"


def test_nothing_is_let_in_that_nobody_takes(wire: Wire, desk: Desk) -> None:
    desk.may_read = Deferred()
    connection = start(wire, f"Content-Length: {8 * PIECE}")
    assert connection.producerState == "paused", "the handler has not asked for anything"
    taking, desk.may_read = desk.may_read, Deferred()
    taking.callback(None)
    assert connection.producerState == "producing"
    connection.send(b"x" * PIECE)
    assert connection.producerState == "producing", "the next piece may come while this one is dealt with"
    connection.send(b"x" * HOLD)
    assert connection.producerState == "paused"
    taking, desk.may_read = desk.may_read, None
    taking.callback(None)
    assert connection.producerState == "producing"
    for _ in range(8 - 1 - HOLD // PIECE):
        connection.send(b"x" * PIECE)
    assert connection.responses()[0].json == {"size": 8 * PIECE}


@pytest.mark.parametrize(
    ("path", "token", "length", "status", "errcode"),
    [
        ("/up/x", None, 8 * PIECE, 401, "M_MISSING_TOKEN"),
        ("/up/x", "stranger", 8 * PIECE, 401, "M_UNKNOWN_TOKEN"),
        ("/up/x", "guest", 8 * PIECE, 403, "M_GUEST_ACCESS_FORBIDDEN"),
        ("/up/%ff", "alice", 8 * PIECE, 400, "M_INVALID_PARAM"),
        ("/up/x", "alice", LIMIT + 1, 413, "M_TOO_LARGE"),
        ("/up/x", "alice", 9 * PIECE, 413, "M_TOO_LARGE"),  # by what the handler says
    ],
)
def test_refused_unread(
    wire: Wire, desk: Desk, path: str, token: str | None, length: int, status: int, errcode: str
) -> None:
    desk.limit = 8 * PIECE
    connection = start(wire, f"Content-Length: {length}\r\nExpect: 100-continue", path, token)
    (response,) = connection.responses()
    assert (response.status, response.errcode, response.headers["connection"]) == (status, errcode, "close")
    assert not desk.pieces


def test_refused_and_the_connection_lives(wire: Wire) -> None:
    connection = start(wire, f"Content-Length: {SMALL_BODY}", token="stranger")
    assert not connection.value()
    connection.send(b"x" * SMALL_BODY)
    assert connection.responses()[0].status == 401
    connection.send(request("PUT", "/up/y", b"more", token="alice"))
    assert connection.responses()[0].status == 200


def test_rates_are_charged_before_the_body(desk: Desk) -> None:
    wire = Wire.to([House], {Desk: desk}, limits=one_a_minute())
    assert wire.ask("PUT", "/up/x", b"once").status == 200
    connection = start(wire, f"Content-Length: {2 * PIECE}")
    assert connection.responses()[0].status == 429
    assert desk.pieces == [b"once"]


def test_refused_in_the_middle(wire: Wire) -> None:
    connection = start(wire, f"Content-Length: {4 * PIECE}", "/refuses", method="POST")
    connection.send(b"x")
    (response,) = connection.responses()
    assert (response.status, response.headers["connection"]) == (403, "close")
    assert not wire.site.exchanges
    connection.send(b"x" * PIECE)  # what was on its way
    assert not connection.disconnecting, "closing now could cost the client the answer"
    connection.send(b"x" * (3 * PIECE - 1))
    assert connection.disconnecting


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_chunks_up_to_the_limit(wire: Wire, desk: Desk, size: int) -> None:
    connection = start(wire, "Transfer-Encoding: chunked")
    for place in range(0, size, PIECE):
        connection.send(chunk(b"x" * min(PIECE, size - place)))
    if size == LIMIT:
        connection.send(b"0\r\n\r\n")
        assert connection.responses()[0].json == {"size": LIMIT}
    else:
        (response,) = connection.responses()
        assert (response.status, response.errcode, response.headers["connection"]) == (413, "M_TOO_LARGE", "close")
        assert desk.outcome == "waiting"


def test_expecting_to_continue(wire: Wire, desk: Desk) -> None:
    desk.may_read = Deferred()
    connection = start(wire, "Content-Length: 5\r\nExpect: 100-continue")
    assert not connection.value(), "nobody is told to send what may be refused yet"
    taking, desk.may_read = desk.may_read, None
    taking.callback(None)
    assert connection.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.clear()
    connection.send(b"hello")
    assert connection.responses()[0].status == 200


def test_hanging_up_in_the_middle(wire: Wire, desk: Desk) -> None:
    connection = start(wire, f"Content-Length: {2 * PIECE}")
    connection.send(b"x" * PIECE)
    connection.hang_up()
    assert desk.outcome == "gone"
    assert not wire.site.exchanges and not wire.site.channels


def test_hanging_up_after_the_body(wire: Wire, desk: Desk) -> None:
    """What came whole is kept, though nobody hears of it."""
    desk.may_read = Deferred()
    connection = start(wire, "Content-Length: 3")
    connection.send(b"abc")
    assert connection.producerState == "producing", "or nobody would notice that the client goes away"
    connection.hang_up()
    taking, desk.may_read = desk.may_read, None
    taking.callback(None)
    assert desk.outcome == "done"
    assert not wire.site.exchanges


def test_malformed_chunks(wire: Wire, desk: Desk) -> None:
    connection = start(wire, "Transfer-Encoding: chunked")
    connection.send(b"xyz\r\n")
    assert connection.responses()[0].status == 400
    connection.hang_up()
    assert desk.outcome == "gone"


def test_no_thread_reads_from_below_tls(wire: Wire) -> None:
    connection = wire.connect()
    tap = Tap(-1, 5)
    connection.tap = lambda most: tap  # type: ignore[attr-defined]
    assert connection.channel.tap(5) is tap
    tls = TLSMemoryBIOProtocol(None, connection.channel)
    tls.transport = connection
    connection.channel.transport = tls
    assert tls.tap(5) is tap, "it passes on what it is asked for"
    assert connection.channel.tap(5) is None


@define
class Spout:
    """An `Inlet` that any number of threads could read from."""

    taps: list[int] = field(factory=list)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def welcome(self) -> None: ...

    def tap(self, most: int) -> Tap:
        self.taps.append(most)
        return Tap(-1, most)

    def drawn(self, size: int) -> None: ...


@pytest.mark.parametrize("left", [0, 1])
def test_no_thread_waits_for_what_is_there_already(left: int) -> None:
    """The reader is woken by the last piece, before the end is told."""
    spout = Spout()
    body = IncomingBody(10, spout, LIMIT)

    async def take() -> Tap | None:
        await body.read(1)
        assert not body.complete
        with body.tap() as tap:
            if tap is not None:
                tap.closed = True
            return tap

    taken = Deferred.fromCoroutine(take())
    body.add(bytes(10 - left))
    assert spout.taps == [1] * left
    assert (taken.result is None) is (left == 0)


# Patience with who uploads


def pass_time(wire: Wire, seconds: float) -> None:
    wire.timers.pump([5] * int(seconds // 5))


def test_a_client_that_sends_nothing_is_let_go(wire: Wire, desk: Desk) -> None:
    connection = start(wire, f"Content-Length: {2 * PIECE}")
    pass_time(wire, IDLE_SECONDS)
    assert not connection.aborted
    pass_time(wire, 10)
    assert connection.aborted
    assert desk.outcome == "gone"


def test_a_client_that_trickles_is_let_go(wire: Wire) -> None:
    connection = start(wire, f"Content-Length: {2 * PIECE}")
    for _ in range(REQUEST_SECONDS // 5):
        connection.send(b"x")
        pass_time(wire, 5)
    assert not connection.aborted
    for _ in range(4):
        connection.send(b"x")
        pass_time(wire, 5)
    assert connection.aborted


def test_a_slow_phone_is_waited_for(wire: Wire) -> None:
    length = LEAST_BYTES_A_SECOND * 1000
    connection = start(wire, f"Content-Length: {length}")
    for _ in range(1000 // 5 - 1):
        connection.send(b"x" * LEAST_BYTES_A_SECOND * 5)
        pass_time(wire, 5)
    assert not connection.aborted
    connection.send(b"x" * LEAST_BYTES_A_SECOND * 5)
    assert connection.responses()[0].status == 200


def test_our_own_slowness_is_not_the_clients(wire: Wire, desk: Desk) -> None:
    desk.may_read = Deferred()
    connection = start(wire, f"Content-Length: {PIECE}")
    pass_time(wire, 10 * REQUEST_SECONDS)
    assert not connection.aborted
    taking, desk.may_read = desk.may_read, None
    taking.callback(None)
    pass_time(wire, IDLE_SECONDS - 10)
    assert not connection.aborted
    connection.send(b"x" * PIECE)
    assert connection.responses()[0].status == 200


# Going out


def test_an_answer_from_a_source(wire: Wire, desk: Desk) -> None:
    connection = wire.connect()
    connection.send(request("GET", "/down", token="alice"))
    (response,) = connection.responses()
    assert (response.status, response.body, response.headers["content-type"]) == (200, b"hello world", "text/plain")
    assert desk.source.closed == 1
    assert wire.answers == [("GET", "/down", 200)]
    assert not wire.site.exchanges
    desk.source = Pieces([b"again"], 5)
    connection.send(request("GET", "/down", token="alice"))
    assert connection.responses()[0].body == b"again"


def test_head_reads_nothing(wire: Wire, desk: Desk) -> None:
    response = wire.ask("HEAD", "/down")
    assert (response.headers["content-length"], response.body) == ("11", b"")
    assert (len(desk.source.parts), desk.source.closed) == (2, 1)


def full(connection: Connection) -> None:
    """From now on the connection is full after each write, until `taken`."""
    write = connection.write

    def write_and_be_full(data: bytes) -> None:
        write(data)
        connection.channel.pauseProducing()

    connection.write = write_and_be_full  # type: ignore[method-assign]


def taken(connection: Connection) -> None:
    """The client has taken all that was written."""
    connection.channel.resumeProducing()


def stalled(wire: Wire, desk: Desk) -> Connection:
    """A client that has asked for two pieces and taken none."""
    desk.source = Pieces([b"a", b"b"], 2)
    connection = wire.connect()
    full(connection)
    connection.send(request("GET", "/down", token="alice"))
    return connection


def test_it_goes_out_as_it_is_taken(wire: Wire, desk: Desk) -> None:
    connection = stalled(wire, desk)
    assert connection.value().endswith(b"\r\n\r\na")
    taken(connection)
    assert connection.value().endswith(b"\r\n\r\nab")
    assert not wire.answers
    taken(connection)
    assert wire.answers == [("GET", "/down", 200)]
    assert desk.source.closed == 1
    assert not wire.site.exchanges


def test_hanging_up_ends_the_reading(wire: Wire, desk: Desk) -> None:
    connection = stalled(wire, desk)
    connection.hang_up()
    assert desk.source.closed == 1
    assert wire.answers == [("GET", "/down", 499)]
    assert not wire.site.exchanges and not wire.site.channels


def test_hanging_up_while_it_is_read(wire: Wire, desk: Desk) -> None:
    desk.source = Pieces([Deferred()], 2)
    connection = wire.connect()
    connection.send(request("GET", "/down", token="alice"))
    connection.hang_up()
    assert desk.source.closed == 1
    assert not wire.site.exchanges


def test_a_client_that_takes_nothing_is_let_go(wire: Wire, desk: Desk) -> None:
    connection = stalled(wire, desk)
    pass_time(wire, STALLED_SECONDS)
    assert not connection.aborted
    pass_time(wire, 10)
    assert connection.aborted
    assert desk.source.closed == 1


@pytest.mark.parametrize("parts", [[b"a"], [b"abc"], [b"a", OSError("the disk is gone")]])
def test_a_source_that_is_not_what_it_said(wire: Wire, desk: Desk, parts: list[Any]) -> None:
    """The client must notice, so it can't be a whole answer."""
    desk.source = Pieces(parts, 2)
    connection = wire.connect()
    connection.send(request("GET", "/down", token="alice"))
    assert connection.aborted
    assert connection.value().endswith(b"\r\n\r\na") or connection.value().endswith(b"\r\n\r\n")
    assert desk.source.closed == 1
    assert not wire.site.exchanges


def test_closing_the_site_waits_for_a_long_answer(wire: Wire, desk: Desk) -> None:
    connection = stalled(wire, desk)
    done: list[Any] = []
    Deferred.fromCoroutine(wire.site.close(10)).addBoth(done.append)
    wire.timers.pump([0.1] * 20)
    assert not done and not connection.aborted
    taken(connection)
    taken(connection)
    wire.timers.advance(0.1)
    assert done == [None]
    assert connection.value().endswith(b"ab")


def test_closing_the_site_does_not_wait_for_ever(wire: Wire, desk: Desk) -> None:
    connection = stalled(wire, desk)
    done: list[Any] = []
    Deferred.fromCoroutine(wire.site.close(10)).addBoth(done.append)
    wire.timers.pump([1] * 11)
    assert done == [None]
    assert connection.aborted
    assert desk.source.closed == 1


# Routes


class Json(msgspec.Struct):
    member: int


class Bad:
    @staticmethod
    @route("GET", "/", auth=NONE, rate=None)
    async def without_a_body(body: IncomingBody) -> None: ...

    @staticmethod
    @route("PUT", "/", auth=FEDERATION, rate=None)
    async def signed(body: IncomingBody) -> None: ...

    @staticmethod
    @route("PUT", "/", auth=NONE, rate=None)
    async def of_json(ask: Json, body: IncomingBody) -> None: ...

    @staticmethod
    @route("PUT", "/", auth=NONE, rate=None, headers=["range"])
    async def with_a_header_nobody_takes(ask: Json) -> None: ...


@pytest.mark.parametrize("handler", ["without_a_body", "signed", "of_json", "with_a_header_nobody_takes"])
def test_routes_that_cannot_be(handler: str) -> None:
    with pytest.raises(BadRoute):
        RouteTable([SimpleNamespace(handler=getattr(Bad, handler))], {})

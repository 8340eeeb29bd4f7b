"""Listeners of the event loop's own, over real sockets."""

from __future__ import annotations

import hashlib
import os
import select
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread

from homeserver.http.bodies import HOLD, PIECE, IncomingBody
from homeserver.http.route import NONE, Reply, RequestInfo, route
from homeserver.http.site import STALLED_SECONDS, SWEEP_SECONDS
from homeserver.http.sockets import Port, listen
from homeserver.http.tap import Tap
from tests.http.wire import Wire, request

T = TypeVar("T")

PIECES = 64
"""Of a long answer, 16 MiB: more than any kernel keeps for a client that does not read."""


@define
class Pieces:
    """A source that counts what was read of it; the bytes of each piece say which it is."""

    length: int = PIECES * PIECE
    read_pieces: int = 0

    async def read(self) -> bytes:
        self.read_pieces += 1
        return bytes([self.read_pieces]) * PIECE

    def close(self) -> None: ...


@define
class Log:
    did: list[str] = field(factory=list)
    source: Pieces = field(factory=Pieces)
    waiting: Deferred[None] = field(factory=Deferred)
    """Fires when somebody waits."""
    ended: Deferred[None] = field(factory=Deferred)
    body: IncomingBody | None = None
    go: Deferred[None] = field(factory=Deferred)
    tap: Tap | None = None
    drawn: int = 0
    """Bytes that came by taps."""


class House:
    @staticmethod
    @route("GET", "/info", auth=NONE, rate=None)
    async def info(info: RequestInfo) -> dict[str, str]:
        return {"address": info.address}

    @staticmethod
    @route("GET", "/wait", auth=NONE, rate=None, interruptible=True)
    async def wait(log: Log) -> None:
        log.waiting.callback(None)
        try:
            await Deferred[None]()
        except CancelledError:
            log.did.append("interrupted")
            log.ended.callback(None)
            raise

    @staticmethod
    @route("GET", "/long", auth=NONE, rate=None)
    async def long(log: Log) -> Reply:
        return Reply(200, source=log.source)

    @staticmethod
    @route("POST", "/take", auth=NONE, rate=None, max_body=PIECES * PIECE)
    async def take(log: Log, body: IncomingBody) -> dict[str, int]:
        log.body = body
        await body.read()
        log.waiting.callback(None)
        await log.go
        taken = body.received
        while not body.complete:
            await body.read()
        return {"before": taken, "all": body.received}

    @staticmethod
    @route("POST", "/draw", auth=NONE, rate=None, max_body=PIECES * PIECE)
    async def draw(log: Log, body: IncomingBody) -> dict[str, str | int]:
        digest = hashlib.sha256(b"".join(await body.read(1)))
        try:
            while not body.complete:
                with body.tap() as tap:
                    if tap is not None:
                        await deferToThread(_drain, tap, digest)
                        log.drawn += tap.drawn
                if tap is None or tap.dry:
                    digest.update(b"".join(await body.read(1)))
        except CancelledError:
            log.ended.callback(None)
            raise
        return {"digest": digest.hexdigest(), "all": body.received}

    @staticmethod
    @route("POST", "/hold", auth=NONE, rate=None)
    async def hold(log: Log, body: IncomingBody) -> None:
        await body.read(1)
        with body.tap() as log.tap:
            log.waiting.callback(None)
            await Deferred[None]()


def _drain(tap: Tap, digest: Any) -> None:
    block = memoryview(bytearray(PIECE))
    try:
        select.select([tap._descriptor], [], [])
        while size := tap.fill(block):
            digest.update(block[:size])
    finally:
        tap.close()


@define
class Served:
    wire: Wire
    log: Log
    port: Port

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port.getHost().port), timeout=60)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        return connection


def _serve() -> Served:
    log = Log()
    wire = Wire.to([House], {Log: log})
    wire.site.stopFactory()  # the port starts it
    return Served(wire, log, listen(wire.site, "127.0.0.1", 0, reactor.loop))  # type: ignore[attr-defined]


async def _meanwhile(function: Callable[..., T], *args: Any) -> T:
    """Blocks a thread, not the loop."""
    result: T = await deferToThread(function, *args)
    return result


def _all(connection: socket.socket) -> bytes:
    """Everything until the other side has ended it."""
    return b"".join(iter(lambda: connection.recv(2**20), b""))


def _plain(path: str, **more: str) -> bytes:
    return request("GET", path, token=None, headers=more)


@pytest_twisted.ensureDeferred
async def test_requests_on_one_connection_and_its_end() -> None:
    served = _serve()
    with served.connect() as connection:
        connection.sendall(_plain("/info") + _plain("/nothing") + _plain("/info", Connection="close"))
        answers = await _meanwhile(_all, connection)
    assert answers.count(b'{"address":"127.0.0.1"}') == 2
    assert answers.count(b"HTTP/1.1 404 ") == 1
    with served.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert (await _meanwhile(_all, connection)).startswith(b"HTTP/1.1 400 ")

    with pytest.raises(CannotListenError):
        listen(served.wire.site, "127.0.0.1", served.port.getHost().port, reactor.loop)  # type: ignore[attr-defined]
    address = "127.0.0.1", served.port.getHost().port
    await served.port.stopListening()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_ends_what_it_waited_for() -> None:
    served = _serve()
    with served.connect() as connection:
        connection.sendall(_plain("/wait"))
        await served.log.waiting
    await served.log.ended
    assert served.log.did == ["interrupted"]
    assert not served.wire.site.channels
    await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_long_answer_goes_as_fast_as_it_is_taken_and_is_whole() -> None:
    served = _serve()
    source = served.log.source
    with served.connect() as connection:
        connection.sendall(_plain("/long", Connection="close"))
        head = await _meanwhile(connection.recv, 4096)
        while (channel := next(iter(served.wire.site.channels))).requests[0].outflow is None:
            await _meanwhile(int)
        assert not channel.is_idle()
        assert 0 < source.read_pieces < PIECES
        _, _, rest = (head + await _meanwhile(_all, connection)).partition(b"\r\n\r\n")
    assert rest == b"".join(bytes([number]) * PIECE for number in range(1, PIECES + 1))
    await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_nothing_is_let_go() -> None:
    served = _serve()
    with served.connect() as connection:
        connection.sendall(_plain("/long"))
        await _meanwhile(connection.recv, 1)
        (channel,) = served.wire.site.channels
        while (outflow := channel.requests[0].outflow) is None or outflow.waiting_since is None:
            await _meanwhile(int)
        served.wire.timers.pump([SWEEP_SECONDS] * (int(STALLED_SECONDS / SWEEP_SECONDS) + 2))
        with pytest.raises(ConnectionResetError):
            await _meanwhile(_all, connection)
    assert served.log.source.read_pieces < PIECES
    assert not served.wire.site.channels
    await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_long_body_waits_at_its_client_until_it_is_wanted() -> None:
    served = _serve()
    size = PIECES * PIECE
    with served.connect() as connection:

        def send() -> bytes:
            connection.sendall(
                b"POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
            )
            connection.sendall(bytes(size))
            return _all(connection)

        sending = deferToThread(send)
        await served.log.waiting
        await _meanwhile(int)
        served.log.go.callback(None)
        answer = (await sending).decode()
    taken = int(answer.partition('{"before":')[2].partition(",")[0])
    assert taken <= HOLD + 3 * PIECE  # what was read, what is held, and of either what came with the last of it
    assert f'"all":{size}' in answer
    await served.port.stopListening()


def _post(path: str, size: int, **more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {size}", *(f"{k}: {v}" for k, v in more.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest_twisted.ensureDeferred
async def test_a_thread_draws_a_body_and_leaves_what_follows() -> None:
    served = _serve()
    data = os.urandom(PIECE) * 16 + b"end"
    with served.connect() as connection:

        def send() -> bytes:
            connection.sendall(_post("/draw", len(data)))
            connection.sendall(data + _plain("/info", Connection="close"))
            return _all(connection)

        answers = (await _meanwhile(send)).decode()
    assert f'"digest":"{hashlib.sha256(data).hexdigest()}"' in answers
    assert f'"all":{len(data)}' in answers
    assert '{"address":"127.0.0.1"}' in answers
    assert served.log.drawn > 0
    assert not served.wire.site.exchanges
    await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_while_a_thread_draws() -> None:
    served = _serve()
    with served.connect() as connection:
        await _meanwhile(connection.sendall, _post("/draw", 8 * PIECE) + bytes(3 * PIECE))
    await served.log.ended
    await _meanwhile(int)
    assert not served.wire.site.channels and not served.wire.site.exchanges
    await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_a_thread_still_draws_ends_the_connection() -> None:
    """How much it takes nobody knows, so nothing else can follow."""
    served = _serve()
    with served.connect() as connection:
        connection.sendall(_post("/hold", 10) + b"12345")
        await served.log.waiting
        await _meanwhile(int)
        (exchange,) = served.wire.site.exchanges
        exchange.interrupt()
        answer = await _meanwhile(connection.recv, 4096)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nConnection: close\r\n" in answer
        connection.sendall(b"67890")
        tap = served.log.tap
        assert tap is not None
        assert tap.unwanted and tap.fill(memoryview(bytearray(10))) == 0
        tap.close()
    while served.wire.site.channels:
        await _meanwhile(int)
    await served.port.stopListening()

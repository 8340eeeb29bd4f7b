"""Hostile bytes in every state that a request may be in: the site answers in whole answers, or hangs up, and forgets.

idle ── line ── headers ── body / chunks ── handler runs ── answered ── idle …
                    └── refused early, the body still coming
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from homeserver.http.route import NONE, USER, Requester, route
from homeserver.http.site import IDLE_SECONDS, REQUEST_SECONDS, SWEEP_SECONDS
from tests.fuzz.mutate import ODD_BYTES, spoil_bytes
from tests.fuzz.rounds import TIMEOUT_S, Play
from tests.http.wire import Connection, Wire, request

pytestmark = pytest.mark.timeout(TIMEOUT_S)


class Waiting(list[Deferred[None]]):
    """Handlers that have not answered yet."""


class Put(msgspec.Struct):
    name: str
    content: dict[str, Any]


class House:
    """A handler that answers at once, one that takes a body, one that waits."""

    @staticmethod
    @route("GET", "/open", auth=NONE, rate=None)
    async def get_open() -> None: ...

    @staticmethod
    @route("PUT", "/put/{name}", auth=USER, rate=None, body="content", max_body=1000)
    async def put(who: Requester, ask: Put) -> dict[str, Any]:
        return {ask.name: ask.content}

    @staticmethod
    @route("GET", "/wait", auth=NONE, rate=None)
    @route("POST", "/wait", auth=NONE, rate=None)
    async def wait(waiting: Waiting) -> None:
        answered: Deferred[None] = Deferred()
        waiting.append(answered)
        await answered


SIZED = b"PUT /put/a HTTP/1.1\r\nAuthorization: Bearer alice\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"PUT /put/a HTTP/1.1\r\nAuthorization: Bearer alice\r\nTransfer-Encoding: chunked\r\n\r\n"

#: State → what was sent when it is reached, and how it goes on where all is well.
STATES: dict[str, tuple[bytes, bytes]] = {
    "idle": (b"", b"GET /open HTTP/1.1\r\n\r\n"),
    "in the line": (b"GET /op", b"en HTTP/1.1\r\n\r\n"),
    "between CR and LF": (b"GET /open HTTP/1.1\r", b"\n\r\n"),
    "in the headers": (b"GET /open HTTP/1.1\r\nHost: a\r\nX-", b"Y: z\r\n\r\n"),
    "in a folded header": (b"GET /open HTTP/1.1\r\nX: a\r\n ", b"b\r\n\r\n"),
    "before the body": (SIZED, b'{"a":"b"}'),
    "in the body": (SIZED + b'{"a":', b'"b"}'),
    "expecting to continue": (SIZED[:-2] + b"Expect: 100-continue\r\n\r\n", b'{"a":"b"}'),
    "before a chunk": (CHUNKED, b'9\r\n{"a":"b"}\r\n0\r\n\r\n'),
    "in a chunk's size": (CHUNKED + b"0", b'9\r\n{"a":"b"}\r\n0\r\n\r\n'),
    "in a chunk": (CHUNKED + b'9\r\n{"a":', b'"b"}\r\n0\r\n\r\n'),
    "after a chunk": (CHUNKED + b'9\r\n{"a":"b"}', b"\r\n0\r\n\r\n"),
    "in the trailer": (CHUNKED + b'9\r\n{"a":"b"}\r\n0\r\n', b"\r\n"),
    "refused, the body to come": (b"PUT /none HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"123456789"),
    "refused, a large body to come": (b"PUT /none HTTP/1.1\r\nContent-Length: 90000\r\n\r\n", b"1" * 1000),
    "refused, chunks to come": (CHUNKED.replace(b"/put/a", b"/none"), b"1\r\na\r\n0\r\n\r\n"),
    "too large": (SIZED.replace(b"9\r\n", b"9999\r\n"), b"1" * 9999),
    "the handler runs": (b"GET /wait HTTP/1.1\r\n\r\n", b"GET /open HTTP/1.1\r\n\r\n"),
    "a handler that must end runs": (
        b"POST /wait HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"GET /open HTTP/1.1\r\n\r\n",
    ),
    "answered": (b"GET /open HTTP/1.1\r\n\r\n", b"GET /open HTTP/1.1\r\n\r\n"),
    "answered, and closing": (b"GET /open HTTP/1.1\r\nConnection: close\r\n\r\n", b""),
    "answered to old HTTP": (b"GET /open HTTP/1.0\r\n\r\n", b""),
}


def _hostile(chance: Random, good: bytes) -> list[bytes]:
    """What comes instead of what should: in pieces as they may arrive."""
    match chance.randrange(4):
        case 0:
            data = chance.choice(ODD_BYTES)
        case 1:
            data = chance.randbytes(chance.randrange(200))
        case 2:
            data = spoil_bytes(
                chance, b"".join(state[0] + state[1] for state in chance.sample(list(STATES.values()), 3))
            )
        case _:
            data = spoil_bytes(chance, good + b"GET /open HTTP/1.1\r\n\r\n")
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(4)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _judge(connection: Connection) -> None:
    """Everything that came out is whole answers, none of which says that we are at fault."""
    output = connection.value().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    connection.clear()
    connection.write(output)
    for answer in connection.responses():
        assert answer.status in (200, 204) or 400 <= answer.status < 500, answer
        length = answer.headers.get("content-length")
        assert length is None or int(length) == len(answer.body), "an answer was cut off"


def test_states(play: Play) -> None:
    def check(chance: Random) -> None:
        waiting = Waiting()
        wire = Wire.to([House], {Waiting: waiting})
        connection = wire.connect()
        name = chance.choice(list(STATES))
        start, rest = STATES[name]
        connection.send(start)
        for piece in _hostile(chance, rest):
            match chance.randrange(8):
                case 0 if waiting:
                    waiting.pop(0).callback(None)
                case 1:
                    wire.timers.pump([SWEEP_SECONDS] * chance.randrange(30))
            if connection.aborted:
                break
            connection.send(piece)
        if chance.random() < 0.5 and not connection.aborted:
            connection.hang_up()
        while waiting:  # the answer to one lets the next begin, where requests came faster than answers
            if not (answered := waiting.pop()).called:
                answered.callback(None)
        _judge(connection)
        if connection.channel in wire.site.channels:
            connection.hang_up()
        assert not wire.site.channels and not wire.site.exchanges, f"{name}: something is left"
        other = wire.connect()
        other.send(request("GET", "/open"))
        assert [answer.status for answer in other.responses()] == [200]

    assert play(check) > 0


@pytest.mark.parametrize("name", STATES)
def test_the_good_way_on(name: str) -> None:
    """The table is right: nothing above is hostile by mistake."""
    waiting = Waiting()
    wire = Wire.to([House], {Waiting: waiting})
    connection = wire.connect()
    start, rest = STATES[name]
    connection.send(start)
    if waiting:
        waiting.pop().callback(None)
    for number in rest:
        connection.send(bytes([number]))
    _judge(connection)
    assert connection.disconnecting or not wire.site.exchanges


@pytest.mark.parametrize("name", STATES)
def test_silence_ends(name: str) -> None:
    """Whoever stops in the middle is let go, unless the server is the one who owes an answer."""
    wire = Wire.to([House], {Waiting: Waiting()})
    connection = wire.connect()
    connection.send(STATES[name][0])
    wire.timers.pump([SWEEP_SECONDS] * int((IDLE_SECONDS + REQUEST_SECONDS) / SWEEP_SECONDS + 2))
    assert connection.aborted or connection.disconnecting or "handler" in name

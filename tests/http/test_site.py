"""The edge as its clients meet it, good ones and hostile ones: bytes in, bytes out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from homeserver.errors import Forbidden
from homeserver.http.exchange import MOST_DISCARDED, SMALL_BODY
from homeserver.http.route import (
    ADMIN,
    GUEST,
    NONE,
    OPTIONAL,
    USER,
    Reply,
    Requester,
    RequestInfo,
    route,
)
from homeserver.http.site import IDLE_SECONDS, REQUEST_SECONDS
from storage.errors import ConnectionLost
from tests.http.wire import Wire, one_a_minute, request


class Send(msgspec.Struct):
    room_id: str
    txn_id: str
    content: dict[str, Any]


class Wait(msgspec.Struct):
    timeout: int = 0


class Log:
    """What handlers did, and the waiting ones' keys."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.waiting: list[Deferred[str]] = []


class House:
    """One handler of each kind."""

    @staticmethod
    @route("GET", "/open", auth=NONE, rate="anonymous")
    async def open() -> dict[str, str]:
        return {"hello": "world"}

    @staticmethod
    @route("GET", "/who", auth=USER, rate="read")
    @route("GET", "/guest", auth=GUEST, rate="read")
    @route("GET", "/admin", auth=ADMIN, rate="read")
    async def who(who: Requester) -> dict[str, str]:
        return {"user_id": who.user_id}

    @staticmethod
    @route("GET", "/maybe", auth=OPTIONAL, rate=None)
    async def maybe(who: Requester | None) -> dict[str, str | None]:
        return {"user_id": who.user_id if who else None}

    @staticmethod
    @route("GET", "/info", auth=NONE, rate=None)
    async def info(info: RequestInfo) -> dict[str, str]:
        return {"address": info.address, "agent": info.user_agent}

    @staticmethod
    @route("PUT", "/send/{room_id}/{txn_id}", auth=USER, rate="message", body="content", max_body=1000)
    async def send(log: Log, who: Requester, ask: Send) -> dict[str, str]:
        log.did.append((ask.room_id, ask.txn_id, ask.content))
        return {"event_id": f"${ask.txn_id}"}

    @staticmethod
    @route("POST", "/large", auth=USER, rate=None, max_body=10 * SMALL_BODY)
    async def large(who: Requester) -> None: ...

    @staticmethod
    @route("GET", "/wait", auth=USER, rate=None, query=["timeout"])
    @route("PUT", "/wait", auth=USER, rate=None)
    @route("POST", "/wait", auth=USER, rate=None, interruptible=True)
    async def wait(log: Log, who: Requester, ask: Wait) -> dict[str, str]:
        key: Deferred[str] = Deferred()
        log.waiting.append(key)
        try:
            return {"got": await key}
        except CancelledError:
            log.did.append("cancelled")
            raise

    @staticmethod
    @route("GET", "/broken", auth=NONE, rate=None)
    async def broken() -> None:
        raise RuntimeError("the secret is swordfish")

    @staticmethod
    @route("GET", "/outage", auth=NONE, rate=None)
    async def outage() -> None:
        raise ConnectionLost("could not connect to server at 10.1.2.3")

    @staticmethod
    @route("GET", "/unjson", auth=NONE, rate=None)
    async def unjson() -> dict[str, object]:
        return {"a": object()}

    @staticmethod
    @route("GET", "/forbidden", auth=NONE, rate=None)
    async def forbidden() -> None:
        raise Forbidden("Not you")

    @staticmethod
    @route("GET", "/teapot", auth=NONE, rate=None)
    async def teapot() -> Reply:
        return Reply(418, b"short", {"Content-Type": "text/plain"})


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def wire(log: Log) -> Wire:
    return Wire.to([House], {Log: log})


# The usual way


def test_answers(wire: Wire, log: Log) -> None:
    response = wire.ask("PUT", "/send/%21a%2Fb/t1", {"body": "hi"})
    assert (response.status, response.json) == (200, {"event_id": "$t1"})
    assert log.did == [("!a/b", "t1", {"body": "hi"})]
    assert wire.answers == [("PUT", "/send/{room_id}/{txn_id}", 200)]
    assert not wire.site.exchanges


def test_every_answer_has_cors_and_a_date(wire: Wire) -> None:
    for method, path, token in [
        ("GET", "/open", None),
        ("GET", "/who", None),
        ("GET", "/nowhere", None),
        ("POST", "/open", None),
        ("GET", "/broken", None),
        ("OPTIONS", "/who", None),
        ("OPTIONS", "/nowhere", None),
    ]:
        response = wire.ask(method, path, token=token)
        assert response.headers["access-control-allow-origin"] == "*"
        assert "Authorization" in response.headers["access-control-allow-headers"]
        assert "PUT" in response.headers["access-control-allow-methods"]
        assert response.headers["date"].endswith("GMT")


def test_preflight_does_nothing(wire: Wire, log: Log) -> None:
    response = wire.ask("OPTIONS", "/send/!a/t", token=None, headers={"Access-Control-Request-Method": "PUT"})
    assert (response.status, response.body) == (204, b"")
    assert wire.ask("OPTIONS", "*", token=None).status == 204
    assert not log.did


def test_head(wire: Wire) -> None:
    full = wire.ask("GET", "/open")
    head = wire.ask("HEAD", "/open")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == full.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "status", "errcode"),
    [
        ("GET", "/nowhere", 404, "M_UNRECOGNIZED"),
        ("GET", "/open/", 404, "M_UNRECOGNIZED"),
        ("GET", "//open", 404, "M_UNRECOGNIZED"),
        ("DELETE", "/open", 405, "M_UNRECOGNIZED"),
        ("BREW", "/open", 405, "M_UNRECOGNIZED"),
        ("get", "/open", 405, "M_UNRECOGNIZED"),
        ("GET", "/forbidden", 403, "M_FORBIDDEN"),
        ("PUT", "/send/%ff/t", 400, "M_INVALID_PARAM"),
        ("GET", "/wait?timeout=soon", 400, "M_INVALID_PARAM"),
        ("GET", "/wait?timeout=%ff", 400, "M_INVALID_PARAM"),
        ("GET", "http://test.example/nowhere", 404, "M_UNRECOGNIZED"),
        ("GET", "http://test.example", 404, "M_UNRECOGNIZED"),
        ("GET", "ftp://test.example/open", 404, "M_UNRECOGNIZED"),
        ("GET", "open", 404, "M_UNRECOGNIZED"),
        ("GET", "*", 404, "M_UNRECOGNIZED"),
    ],
)
def test_errors(wire: Wire, method: str, path: str, status: int, errcode: str) -> None:
    response = wire.ask(method, path)
    assert (response.status, response.errcode) == (status, errcode)
    assert response.json["error"]


def test_absolute_targets(wire: Wire) -> None:
    assert wire.ask("GET", "http://test.example/open").json == {"hello": "world"}
    assert wire.ask("GET", "HTTPS://test.example/open").json == {"hello": "world"}


def test_without_its_database_a_server_asks_for_patience(wire: Wire) -> None:
    response = wire.ask("GET", "/outage")
    assert (response.status, response.errcode) == (503, "M_UNKNOWN")
    assert "10.1" not in response.json["error"]


@pytest.mark.parametrize("path", ["/broken", "/unjson"])
def test_our_own_mistakes_say_nothing(wire: Wire, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    response = wire.ask("GET", path)
    assert (response.status, response.errcode) == (500, "M_UNKNOWN")
    assert "swordfish" not in response.body.decode() and "object" not in response.body.decode()
    assert "request " in response.json["error"]


def test_other_types(wire: Wire) -> None:
    response = wire.ask("GET", "/teapot")
    assert (response.status, response.body, response.headers["content-type"]) == (418, b"short", "text/plain")


# Who is asking


@pytest.mark.parametrize(
    ("path", "token", "status", "errcode"),
    [
        ("/who", None, 401, "M_MISSING_TOKEN"),
        ("/who", "", 401, "M_MISSING_TOKEN"),
        ("/who", "stranger", 401, "M_UNKNOWN_TOKEN"),
        ("/who", "alice ", 200, None),
        ("/who", "guest", 403, "M_GUEST_ACCESS_FORBIDDEN"),
        ("/guest", "guest", 200, None),
        ("/guest", "alice", 200, None),
        ("/admin", "alice", 403, "M_FORBIDDEN"),
        ("/admin", "guest", 403, "M_FORBIDDEN"),
        ("/admin", "admin", 200, None),
        ("/maybe", None, 200, None),
        ("/maybe", "alice", 200, None),
        ("/maybe", "stranger", 401, "M_UNKNOWN_TOKEN"),
        ("/who", "x" * 10_000, 401, "M_UNKNOWN_TOKEN"),
        ("/who", "\xff\xfe", 401, "M_UNKNOWN_TOKEN"),
    ],
)
def test_tokens(wire: Wire, path: str, token: str | None, status: int, errcode: str | None) -> None:
    for _ in range(2):  # from the source, and from memory
        response = wire.ask("GET", path, token=token)
        assert (response.status, response.json.get("errcode")) == (status, errcode)


def test_other_places_for_tokens(wire: Wire) -> None:
    assert wire.ask("GET", "/who?access_token=alice", token=None).status == 200
    assert wire.ask("GET", "/who?access_token=", token=None).errcode == "M_MISSING_TOKEN"
    assert wire.ask("GET", "/who?access_token=guest").json == {"user_id": "@alice:test.example"}
    for header, status in [("bearer alice", 200), ("BEARER  alice", 200), ("Basic alice", 401), ("alice", 401)]:
        assert wire.ask("GET", "/who", token=None, headers={"Authorization": header}).status == status


def test_rates(log: Log) -> None:
    wire = Wire.to([House], {Log: log}, limits=one_a_minute())
    assert wire.ask("GET", "/who").status == 200
    refused = wire.ask("GET", "/guest")  # the same class
    assert (refused.status, refused.errcode, refused.headers["retry-after"]) == (429, "M_LIMIT_EXCEEDED", "61")
    assert refused.json["retry_after_ms"] == 60_001
    assert wire.ask("GET", "/guest", token="guest").status == 200
    assert wire.ask("GET", "/open").status == 200
    assert wire.ask("GET", "/open", token=None, address="192.0.2.8").status == 200
    assert wire.ask("GET", "/open", token=None, address="192.0.2.8").status == 429
    wire.timers.advance(60)
    assert wire.ask("GET", "/who").status == 200


def test_guessing_tokens_is_slowed_down(log: Log) -> None:
    wire = Wire.to([House], {Log: log}, limits=one_a_minute())
    assert wire.ask("GET", "/who", token="guess1").status == 401
    assert wire.ask("GET", "/who", token="guess2").status == 429


def test_what_a_handler_hears_of_a_client(log: Log) -> None:
    wire = Wire.to([House], {Log: log})
    headers = {"User-Agent": "nio\xff", "X-Forwarded-For": "203.0.113.5"}
    assert wire.ask("GET", "/info", headers=headers).json == {"address": "192.0.2.7", "agent": "nio\ufffd"}


# Bodies


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        (b"", 200, None),
        (b"{}", 200, None),
        (b"{", 400, "M_NOT_JSON"),
        (b"\xff", 400, "M_NOT_JSON"),
        (b'{"a":"\xc3\x28"}', 400, "M_NOT_JSON"),
        (b"[]", 400, "M_BAD_JSON"),
        (b'"x"', 400, "M_BAD_JSON"),
        (b'{"a":' + b"[" * 400 + b"]" * 400 + b"}", 400, "M_BAD_JSON"),
        (b"{" + b" " * 998 + b"}", 200, None),
        (b"{" + b" " * 999 + b"}", 413, "M_TOO_LARGE"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies(wire: Wire, body: bytes, status: int, errcode: str | None, chunked: bool) -> None:
    connection = wire.connect()
    if chunked:
        connection.send(start_of("PUT", "/send/a/b", "Transfer-Encoding: chunked"))
        for start in range(0, len(body), 7):
            connection.send(chunk(body[start : start + 7]))
        connection.send(b"0\r\n\r\n")
    else:
        connection.send(request("PUT", "/send/a/b", body, token="alice"))
    (response,) = connection.responses()
    assert (response.status, response.json.get("errcode")) == (status, errcode)
    assert not wire.site.exchanges


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def start_of(method: str, path: str, headers: str, token: str | None = "alice") -> bytes:
    credentials = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{credentials}{headers}\r\n\r\n".encode()


def test_refused_before_a_large_body_is_read(wire: Wire) -> None:
    for path, token, status in [("/large", None, 401), ("/nowhere", "alice", 404), ("/send/a/b", "alice", 413)]:
        method = "PUT" if "send" in path else "POST"
        connection = wire.connect()
        connection.send(start_of(method, path, f"Content-Length: {SMALL_BODY + 1}", token))
        (response,) = connection.responses()
        assert (response.status, response.headers["connection"]) == (status, "close")
        # The rest is taken in, so that the answer is not lost by a reset, and then the connection goes.
        connection.send(b"x" * SMALL_BODY)
        assert not connection.disconnecting
        connection.send(b"x")
        assert connection.disconnecting
        assert not connection.value()


def test_refused_before_a_small_body_and_the_connection_lives(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(start_of("PUT", "/send/a/b", "Content-Length: 1001"))
    assert not connection.value()
    connection.send(b"x" * 1001)
    (response,) = connection.responses()
    assert (response.status, response.errcode) == (413, "M_TOO_LARGE")
    connection.send(request("GET", "/who", token="alice"))
    assert connection.responses()[0].status == 200


def test_nobody_sends_for_ever(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(start_of("PUT", "/send/a/b", "Content-Length: 999999999999"))
    assert connection.responses()[0].status == 413
    for _ in range(MOST_DISCARDED // 65536 + 1):
        connection.send(b"x" * 65536)
    assert connection.disconnecting


def test_endless_chunks(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(start_of("PUT", "/send/a/b", "Transfer-Encoding: chunked"))
    connection.send(chunk(b"x" * 1000))
    assert not connection.value()
    connection.send(chunk(b"x"))
    (response,) = connection.responses()
    assert (response.status, response.headers["connection"]) == (413, "close")
    for _ in range(MOST_DISCARDED // 65536 + 1):
        connection.send(chunk(b"x" * 65536))
    assert connection.disconnecting
    assert not connection.value()


@pytest.mark.parametrize(("path", "status"), [("/large", "100"), ("/nowhere", "404")])
def test_expecting_to_continue(wire: Wire, path: str, status: str) -> None:
    connection = wire.connect()
    connection.send(start_of("POST", path, f"Content-Length: {SMALL_BODY + 10}\r\nExpect: 100-continue"))
    assert connection.value().split()[1].decode() == status


def test_bodies_of_gets_do_not_matter(wire: Wire) -> None:
    assert wire.ask("GET", "/who", b"\xff not json").status == 200


# Connections


def test_many_requests_on_one_connection(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(request("GET", "/who", token="alice") * 100)
    assert [response.status for response in connection.responses()] == [200] * 100
    assert not connection.disconnecting


def test_pipelined_requests_wait_their_turn(wire: Wire, log: Log) -> None:
    connection = wire.connect()
    connection.send(request("GET", "/wait", token="alice") + request("GET", "/who", token="alice"))
    assert not connection.value()
    log.waiting[0].callback("it")
    assert [response.json for response in connection.responses()] == [{"got": "it"}, {"user_id": "@alice:test.example"}]


def test_byte_by_byte(wire: Wire) -> None:
    connection = wire.connect()
    for byte in request("PUT", "/send/!a/t1", {"a": 1}, token="alice"):
        connection.send(bytes([byte]))
    assert connection.responses()[0].json == {"event_id": "$t1"}


@pytest.mark.parametrize("headers", ["Connection: close", "Connection: Close"])
def test_closing_on_request(wire: Wire, headers: str) -> None:
    connection = wire.connect()
    connection.send(start_of("GET", "/who", headers))
    assert connection.responses()[0].headers["connection"] == "close"
    assert connection.disconnecting


def test_old_http(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(b"GET /open HTTP/1.0\r\n\r\n")
    assert connection.responses()[0].status == 200
    assert connection.disconnecting


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n",
        b"GET\r\n\r\n",
        b"GET /open\r\n\r\n",
        b"GET /open HTTP/2.0\r\n\r\n",
        b"GET /open HTTP/1.1 more\r\n\r\n",
        b"G\x00T /open HTTP/1.1\r\n\r\n",
        b"GET /op\x01en HTTP/1.1\r\n\r\n",
        b"GET /open HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /open HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"GET /open HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"PUT /open HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT /open HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        b"PUT /open HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT /open HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /open HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"PUT /large HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"a" * 20_000,
        b"GET /open HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"GET /open HTTP/1.1\r\n" + b"X: " + b"y" * 9000 + b"\r\n" + b"Z: " + b"y" * 9000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http(wire: Wire, data: bytes) -> None:
    connection = wire.connect()
    connection.send(data)
    assert connection.disconnecting
    (response,) = [answer for answer in connection.responses() if answer.status != 405]
    assert response.status == 400
    assert response.errcode == "M_UNKNOWN"
    connection.hang_up()
    assert not wire.site.channels and not wire.site.exchanges


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_any_bytes_at_all(pieces: list[bytes], polite_start: bool) -> None:
    wire = Wire.to([House], {Log: Log()})
    connection = wire.connect()
    if polite_start:
        connection.send(b"PUT /send/a/b HTTP/1.1\r\nAuthorization: Bearer alice\r\nTransfer-Encoding: chunked\r\n")
    for piece in pieces:
        connection.send(piece)
    assert all(400 <= response.status < 500 or response.status in (200, 204) for response in connection.responses())
    connection.hang_up()
    assert not wire.site.channels and not wire.site.exchanges


VERBS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH"])
PATHS = st.sampled_from(
    ["/open", "/who", "/send/a/b", "/large", "/send/%2F/%ff", "/who?access_token=%ff", "/%", "/?%=&%zz"]
)
TOKENS = st.sampled_from([None, "alice", "guest", "stranger"])


@given(VERBS, PATHS, TOKENS, st.binary(max_size=2000))
def test_any_request_at_all(method: str, path: str, token: str | None, body: bytes) -> None:
    wire = Wire.to([House], {Log: Log()})
    response = wire.ask(method, path, body, token=token)
    assert response.status in (200, 204) or (400 <= response.status < 500 and (method == "HEAD" or response.errcode))
    assert not wire.site.exchanges


# Time


def test_hanging_up_ends_what_only_waits(wire: Wire, log: Log) -> None:
    for method in ("GET", "POST"):
        connection = wire.connect()
        connection.send(request(method, "/wait", token="alice"))
        connection.hang_up()
        assert log.did.pop() == "cancelled"
        assert not wire.site.exchanges


def test_hanging_up_does_not_stop_a_change(wire: Wire, log: Log) -> None:
    connection = wire.connect()
    connection.send(request("PUT", "/wait", token="alice"))
    connection.hang_up()
    assert not log.did
    assert wire.site.exchanges
    log.waiting[0].callback("done")
    assert not wire.site.exchanges
    assert wire.answers == [("PUT", "/wait", 200)]


def test_hanging_up_in_the_middle_of_a_body(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(start_of("PUT", "/send/a/b", "Content-Length: 10") + b"{")
    connection.hang_up()
    assert not wire.site.exchanges and not wire.site.channels


def test_idle_connections_are_let_go(wire: Wire, log: Log) -> None:
    idle, busy, slow = wire.connect(), wire.connect(), wire.connect()
    idle.send(request("GET", "/who", token="alice"))
    busy.send(request("GET", "/wait", token="alice"))
    wire.timers.pump([5] * (IDLE_SECONDS // 5))
    slow.send(b"GET / HT")
    assert not idle.aborted
    wire.timers.pump([5, 5])
    assert idle.aborted
    assert not busy.aborted
    for _ in range(REQUEST_SECONDS // 5 - 2):  # a byte now and then does not keep a request open for ever
        slow.send(b"T")
        wire.timers.advance(5)
    assert not slow.aborted
    wire.timers.pump([5, 5])
    assert slow.aborted
    assert not busy.aborted
    log.waiting[0].callback("at last")
    assert busy.responses()[0].json == {"got": "at last"}


def closing(wire: Wire, grace: float) -> list[Any]:
    done: list[Any] = []
    Deferred.fromCoroutine(wire.site.close(grace)).addBoth(done.append)
    return done


def test_closing_lets_answers_be_finished(wire: Wire, log: Log) -> None:
    idle, busy = wire.connect(), wire.connect()
    idle.send(request("GET", "/who", token="alice"))
    busy.send(request("PUT", "/wait", token="alice"))
    done = closing(wire, 10)
    assert idle.disconnecting
    assert not busy.disconnecting
    wire.timers.pump([0.1] * 20)
    assert not done
    log.waiting[0].callback("done")
    (response,) = busy.responses()
    assert (response.status, response.headers["connection"]) == (200, "close")
    wire.timers.advance(0.1)
    assert done == [None]
    assert busy.disconnecting
    wire.site.stopFactory()
    assert not wire.timers.getDelayedCalls()


def test_closing_does_not_wait_for_ever(wire: Wire, log: Log) -> None:
    busy = wire.connect()
    busy.send(request("PUT", "/wait", token="alice"))
    done = closing(wire, 10)
    wire.timers.pump([1] * 11)
    assert done == [None]
    (response,) = busy.responses()
    assert (response.status, response.errcode) == (503, "M_UNKNOWN")
    assert log.did == ["cancelled"]
    assert busy.disconnecting


def test_closing_with_nothing_to_do(wire: Wire) -> None:
    assert closing(wire, 10) == [None]

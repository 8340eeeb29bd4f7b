"""The gateway's socket on a real server: how one comes in, what one is refused for, and how it ends."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from itertools import count

import pytest

from tests.fixtures_server import Person, ServerProcess, running_servers
from tests.gateway.client import CallFailed, GatewayClient
from tests.gateway.wire import BINARY, CLOSE, PING, TEXT, Closed, Refused, Wire, frame_of

PAGE = "https://chat.example.org"
_names = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_servers(lambda: tmp_path_factory.mktemp("server")) as start:
        yield start(gateway__origins=json.dumps([PAGE]), gateway__max_connections="3")


@pytest.fixture
def ann(server: ServerProcess) -> Person:
    return server.register(f"ann{next(_names)}")


def new_room(person: Person) -> str:
    return str(person.call("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"})["room_id"])


@pytest.mark.parametrize(
    ("headers", "status", "errcode"),
    [
        ({"Upgrade": ""}, 426, "M_UNRECOGNIZED"),
        ({"Upgrade": "h2c"}, 426, "M_UNRECOGNIZED"),
        ({"Sec_WebSocket_Version": "8"}, 426, "M_UNRECOGNIZED"),
        ({"Sec_WebSocket_Key": ""}, 400, "M_INVALID_PARAM"),
        ({"Sec_WebSocket_Key": "x"}, 400, "M_INVALID_PARAM"),
        ({"Sec_WebSocket_Key": "!" * 24}, 400, "M_INVALID_PARAM"),
        ({"Origin": "https://elsewhere.example.org"}, 403, "M_FORBIDDEN"),
        ({"Origin": "null"}, 403, "M_FORBIDDEN"),
    ],
)
def test_handshakes_that_are_none(server: ServerProcess, headers: dict[str, str], status: int, errcode: str) -> None:
    with pytest.raises(Refused) as refused:
        Wire(server.port, **headers)
    assert refused.value.status == status and refused.value.body["errcode"] == errcode


def test_coming_in(server: ServerProcess, ann: Person) -> None:
    room_id = new_room(ann)
    client = GatewayClient(server.port, ann.token)
    assert client.ready["user"] == {"user_id": ann.user_id, "device_id": ann.device_id}
    assert client.ready["guilds"] == [] and client.ready["ping_ms"] > 0
    client.wire.say({"op": "ping"})
    assert client.wire.hear() == {"op": "pong"}
    sent = client.call("message.send", room_id=room_id, content={"msgtype": "m.text", "body": "hello"}, txn_id="1")
    assert client.call("message.send", room_id=room_id, content={"body": "other"}, txn_id="1") == sent
    kind, data = client.next()
    assert (kind, data["event"]["content"]["body"]) == ("message.created", "hello")
    assert data["event"]["unsigned"]["transaction_id"] == "1"


def test_a_page_of_ours(server: ServerProcess, ann: Person) -> None:
    wire = Wire(server.port, Origin=PAGE)
    wire.say({"op": "identify", "token": ann.token})
    assert wire.hear()["op"] == "ready"


GREETING = {"op": "identify", "token": "no such token"}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (json.dumps(GREETING).encode(), 4001),
        (json.dumps({"op": "call", "id": 1, "method": "typing"}).encode(), 4001),
        (json.dumps({"op": "ping"}).encode(), 4001),
        (json.dumps({"op": "identify"}).encode(), 1008),
        (json.dumps({"op": "identify", "token": 5}).encode(), 1008),
        (json.dumps({**GREETING, "intents": "message"}).encode(), 1008),
        (json.dumps({**GREETING, "intents": ["x"] * 1000}).encode(), 1008),
        (json.dumps({**GREETING, "resume": {"session": "x"}}).encode(), 1008),
        (b"", 4001),
        (b"[]", 1007),
        (b"{", 1007),
        (b"\xff\xfe", 1007),
        (b'{"op":' + b"[" * 5000 + b"]" * 5000 + b"}", 1007),
        (b"x" * 20_000, 1009),
    ],
)
def test_first_messages(server: ServerProcess, payload: bytes, code: int) -> None:
    wire = Wire(server.port)
    wire.frame(TEXT, payload)
    assert wire.closed() == code


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame_of(TEXT, b'{"op":"ping"}', masked=False), 1002),
        (frame_of(BINARY, b'{"op":"ping"}'), 1003),
        (frame_of(3, b"x"), 1002),
        (frame_of(0, b"x"), 1002),
        (frame_of(TEXT, b"a", fin=False) + frame_of(TEXT, b"b"), 1002),
        (frame_of(PING, b"x" * 126), 1002),
        (frame_of(CLOSE, struct.pack("!H", 1000)), 1000),
        (b"\x81\xff" + struct.pack("!Q", 2**62) + b"mask", 1009),
        (frame_of(TEXT, b"x" * 100_000, fin=False) + frame_of(0, b"x" * 200_000), 1009),
        (frame_of(TEXT, b'{"op":"shout"}'), 1008),
        (frame_of(TEXT, b'{"op":"identify","token":"x"}'), 1008),
        (frame_of(TEXT, b'{"op":"call","method":"typing"}'), 1008),
        (frame_of(TEXT, b'{"op":"call","id":{},"method":"typing"}'), 1008),
    ],
)
def test_breaking_the_rules(server: ServerProcess, ann: Person, raw: bytes, code: int) -> None:
    client = GatewayClient(server.port, ann.token)
    client.wire.raw(raw)
    assert client.wire.closed() == code
    GatewayClient(server.port, ann.token)  # nothing is the worse for it


def test_calls_that_fail(server: ServerProcess, ann: Person) -> None:
    room_id, client = new_room(ann), GatewayClient(server.port, ann.token)
    for method, params, errcode in (
        ("no.such.call", {}, "M_UNRECOGNIZED"),
        ("message.send", {}, "M_BAD_JSON"),
        ("message.send", {"room_id": room_id, "content": []}, "M_BAD_JSON"),
        ("message.send", {"room_id": "!none:localhost", "content": {}}, "M_FORBIDDEN"),
        ("message.send", {"room_id": room_id, "content": {"x": "x" * 70_000}}, "M_TOO_LARGE"),
        ("typing", {"room_id": "!none:localhost", "typing": True}, "M_FORBIDDEN"),
        ("reaction.remove", {"room_id": room_id, "event_id": "$none", "key": "x"}, "M_NOT_FOUND"),
        ("read", {"room_id": room_id, "event_id": "no event"}, "M_INVALID_PARAM"),
        ("presence", {"status": "asleep"}, "M_BAD_JSON"),
        ("room.subscribe", {"room_id": "!none:localhost"}, "M_FORBIDDEN"),
    ):
        with pytest.raises(CallFailed) as failed:
            client.call(method, **params)
        assert failed.value.errcode == errcode, (method, params, failed.value)
    client.wire.say({"op": "call", "id": "a", "method": 5})
    assert client.wire.hear()["error"]["errcode"] == "M_BAD_JSON"


def test_rooms_to_subscribe_to(server: ServerProcess, ann: Person) -> None:
    room_id = new_room(ann)
    bob = server.register(f"bob{next(_names)}")
    with pytest.raises(Closed) as closed:
        GatewayClient(server.port, bob.token, query=f"?room={room_id}")
    assert closed.value.code == 4004
    with pytest.raises(Closed) as closed:
        GatewayClient(server.port, bob.token, query="?room=nonsense")
    assert closed.value.code == 4004
    bob.call("POST", f"/_matrix/client/v3/join/{room_id}", {})
    client = GatewayClient(server.port, bob.token, query=f"?room={room_id}")
    ann.call("POST", f"/_matrix/client/v3/rooms/{room_id}/kick", {"user_id": bob.user_id})
    assert client.until("room.deleted")["membership"] == "leave"
    assert client.wire.closed() == 4003


def test_tokens_that_end(server: ServerProcess, ann: Person) -> None:
    client = GatewayClient(server.port, ann.token)
    ann.call("POST", "/_matrix/client/v3/logout", {})
    assert client.wire.closed() == 4001


def test_guests(server: ServerProcess) -> None:
    wire = Wire(server.port)
    wire.say({"op": "identify", "token": "x" * 2000})
    assert wire.closed() == 4001


def test_many_connections_of_one_account(server: ServerProcess, ann: Person) -> None:
    clients = [GatewayClient(server.port, ann.token) for _ in range(3)]
    with pytest.raises(Closed) as closed:
        GatewayClient(server.port, ann.token)
    assert closed.value.code == 4008
    clients.pop().wire.drop()
    for _ in range(100):
        try:
            clients.append(GatewayClient(server.port, ann.token))
            break
        except Closed:
            continue
    assert len(clients) == 3


def test_somebody_elses_session(server: ServerProcess, ann: Person) -> None:
    room_id = new_room(ann)
    hers = GatewayClient(server.port, ann.token)
    bob = server.register(f"bob{next(_names)}")
    his = GatewayClient(server.port, bob.token)
    his.session = hers.session
    his.reconnect()
    assert his.wire.hear() == {"op": "invalid_session"}
    assert his.wire.hear()["op"] == "ready"
    ann.call("PUT", f"/_matrix/client/v3/rooms/{room_id}/send/m.room.message/1", {"body": "mine", "msgtype": "m.text"})
    his.wire.say({"op": "ping"})
    assert his.wire.hear_until(lambda message: message["op"] != "event") == {"op": "pong"}
    hers.seq = 2**52
    hers.reconnect()
    assert hers.wire.hear() == {"op": "invalid_session"}


def test_the_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_servers(lambda: tmp_path_factory.mktemp("server")) as start:
        server = start(profile="dev", rate_limits__gateway='{"per_second": 1, "burst": 10}')
        ann = server.register("ann")
        flood = Wire(server.port)
        flood.say({"op": "identify", "token": ann.token})
        for _ in range(20):
            flood.say({"op": "ping"})
        assert flood.closed() == 4008
        client, stranger = GatewayClient(server.port, ann.token), Wire(server.port)
        server.stop()
        assert client.wire.closed() == 4010 and stranger.closed() == 4010

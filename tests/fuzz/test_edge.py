"""Hostile bytes against a real server: every answer is a clear one, none is a 500, and the server goes on."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from attrs import define

from homeserver.client.all import ALL_ROUTES
from homeserver.http.route import Auth, Route, routes_of
from tests.fixtures_server import Person, ServerProcess, running_servers
from tests.fuzz.mutate import ODD_VALUES, as_json, spoil, spoil_bytes
from tests.fuzz.rounds import TIMEOUT_S, Play

pytestmark = pytest.mark.timeout(TIMEOUT_S)

ROUTES: list[Route] = [row for module in ALL_ROUTES for row in routes_of(module)]

#: A body that is good, by the end of the path; all others get one made of the fields of all of these.
BODIES: Mapping[str, Any] = {
    "/createRoom": {
        "name": "Garden",
        "preset": "public_chat",
        "visibility": "public",
        "invite": ["@bob:localhost"],
        "room_version": "12",
        "room_alias_name": "garden",
        "creation_content": {"m.federate": False, "type": "m.space", "predecessor": {"room_id": "!a:b"}},
        "initial_state": [{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
        "power_level_content_override": {"events": {"m.room.name": 100}, "users": {}, "users_default": 0},
    },
    "/register": {"username": "somebody", "password": "correct horse", "auth": {"type": "m.login.dummy"}},
    "/login": {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": "alice"},
        "password": "correct horse",
        "device_id": "PHONE",
        "refresh_token": True,
    },
    "/filter": {
        "room": {"timeline": {"limit": 5, "types": ["m.room.*"], "lazy_load_members": True}, "rooms": ["!a:b"]},
        "event_fields": ["content.body"],
        "presence": {"not_types": ["*"]},
    },
    "/publicRooms": {"limit": 3, "filter": {"generic_search_term": "a", "room_types": [None]}, "since": "x"},
    "/m.room.power_levels/": {"users": {"@alice:localhost": 100}, "events": {"a": 1}, "ban": 50, "notifications": {}},
    "/m.room.member/{state_key}": {"membership": "invite", "reason": "because", "is_direct": True},
}
EVENT_TYPES = (
    "m.room.message",
    "m.room.topic",
    "m.room.power_levels",
    "m.room.member",
    "m.room.redaction",
    "m.room.canonical_alias",
)
#: Statuses that say that something is wrong with this server; 502 and 504 speak of others.
OUR_FAULT = (500, 503)


@define
class Stage:
    """A person in a room, and whom to replace her by when a round has logged her out."""

    server: ServerProcess
    number: int = 0
    alice: Person | None = None
    room_id: str = ""
    event_id: str = ""

    def person(self) -> Person:
        if self.alice is None or self.alice.request("GET", "/_matrix/client/v3/account/whoami").status != 200:
            self.number += 1
            self.alice = self.server.register(f"alice-{self.number}")
            self.room_id = self.alice.create_room(name="Market square")
            self.event_id = self.alice.say(self.room_id, "hello")
        return self.alice

    def path(self, chance: Random, row: Route, alice: Person) -> str:
        """The route's path with something good for each parameter; one in four of them is spoiled."""
        good = {
            "room_id": self.room_id,
            "room_id_or_alias": self.room_id,
            "room_alias": "#garden:localhost",
            "event_id": self.event_id,
            "user_id": alice.user_id,
            "event_type": chance.choice(EVENT_TYPES),
            "state_key": chance.choice(("", alice.user_id)),
            "txn_id": str(chance.random()),
            "device_id": alice.device_id,
            "receipt_type": chance.choice(("m.read", "m.read.private", "m.fully_read")),
            "filter_id": "0",
            "key_name": "displayname",
        }

        def fill(name: re.Match[str]) -> str:
            value = good.get(name[1], "x")
            if chance.random() < 0.25:
                return quote_from_bytes(spoil_bytes(chance, value.encode())[:2000], safe="")
            return quote(value, safe="")

        return re.sub(r"\{(\w+)\}", fill, row.path)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_servers(lambda: tmp_path_factory.mktemp("fuzzed")) as start:
        yield Stage(start(limits__max_sync_timeout_ms="200"))


def _body(chance: Random, path: str) -> bytes | None:
    fitting = [body for ending, body in BODIES.items() if path.endswith(ending)]
    everything = {name: value for body in BODIES.values() for name, value in body.items()}
    body = spoil(chance, fitting[0] if fitting else everything)
    match chance.randrange(8):
        case 0:
            return spoil_bytes(chance, as_json(body))
        case 1:
            return None
        case _:
            return as_json(body)


def test_routes(stage: Stage, play: Play) -> None:
    def check(chance: Random) -> None:
        alice = stage.person()
        row = chance.choice(ROUTES)
        path = stage.path(chance, row, alice)
        query = {name: _word(chance) for name in row.query if chance.random() < 0.6}
        body = _body(chance, row.path) if row.method != "GET" else None
        token = None if row.auth is Auth.NONE else alice.token
        answer = stage.server.request(row.method, path, body, query, token=token)
        story = f"{row.method} {path} {query} {body!r}: {answer.status} {answer.body!r}"
        assert answer.status not in OUR_FAULT, f"{story}\n{stage.server.log_tail(3000)}"
        assert answer.status < 400 or {"errcode", "flows"} & answer.json.keys(), story

    assert play(check) > 0
    stage.server.check_log()
    # Whatever happened, what is in the rooms can still be read; she may have left hers.
    alice = stage.person()
    assert alice.sync(full_state="true")["next_batch"]
    page = f"/_matrix/client/v3/rooms/{quote(stage.room_id, safe='')}/messages"
    assert alice.request("GET", page, query={"dir": "b", "limit": 1000}).status in (200, 403)


def _word(chance: Random) -> str:
    value = chance.choice(ODD_VALUES)
    text = value if isinstance(value, str) else json.dumps(value)
    return chance.choice((text, "5", "b", "f", "join", '{"room":{"timeline":{"limit":1}}}', "true", text * 2))[:3000]


def test_bytes(stage: Stage, play: Play) -> None:
    """Requests that are hardly HTTP: an answer or a closed connection, within seconds."""
    token = stage.person().token
    requests = [
        _request("GET", "/_matrix/client/versions"),
        _request("GET", "/_matrix/client/v3/sync?timeout=0&filter={}", f"Authorization: Bearer {token}"),
        _request("POST", "/_matrix/client/v3/createRoom", f"Authorization: Bearer {token}", body='{"name":"x"}'),
        _request("PUT", "/_matrix/client/v3/directory/room/%23a%2Fb%3Alocalhost", "X-Forwarded-For: 1", body="{}"),
        _request("POST", "/_matrix/client/v3/login", "Transfer-Encoding: chunked")
        + b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n',
    ]

    def check(chance: Random) -> None:
        data = b"".join(spoil_bytes(chance, chance.choice(requests)) for _ in range(chance.choice((1, 1, 2, 4))))
        answers = _exchange(stage.server.port, data)
        for status in re.findall(rb"HTTP/1\.[01] (\d\d\d)", answers):
            assert int(status) not in OUR_FAULT, f"{data!r}: {answers!r}"

    assert play(check) > 0
    stage.server.check_log()
    assert stage.server.request("GET", "/health").status == 200


def _request(method: str, path: str, *headers: str, body: str | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", body or ""]).encode()


def _exchange(port: int, data: bytes) -> bytes:
    """Send bytes, say that there are no more, and take what comes until the server hangs up or has no more to say."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.3) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:
            pass
    return received

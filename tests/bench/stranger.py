"""Servers that exist only as far as others can tell: each has a name, a key and people, and says what a benchmark
wants.

All of them are one HTTP server behind the lines of a town (`homeserver.harness`), which tells their keys and takes what
is sent to them. What they say goes straight to the server that is measured, over one connection that stays open.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import quote

from attrs import define, field

from federation.room.build import build_event
from federation.room.canonical import canonical_json
from federation.room.event import Event
from federation.room.hashing import encode_base64
from federation.room.parse import parse_pdu
from federation.room.signing import SigningKey, sign_json
from federation.room.versions import ROOM_VERSIONS
from federation.wire.x_matrix import Credentials, signed_request, write_header
from homeserver.harness.faults import NewLine
from homeserver.harness.server import Server, free_port
from homeserver.harness.town import Town

VERSION = ROOM_VERSIONS["11"]
V1 = "/_matrix/federation/v1"


@define(eq=False)
class Stranger:
    """One of them."""

    name: str
    key: SigningKey
    _connections: dict[int, http.client.HTTPConnection] = field(factory=dict)
    _transactions: Iterator[int] = field(factory=lambda: itertools.count(time.time_ns()))

    def ask(self, server: Server, method: str, uri: str, body: bytes | None = None) -> Any:
        """A signed request, which must succeed; its JSON. `body` is canonical JSON."""
        message = signed_request(method, uri, self.name, server.name, body)
        signature = encode_base64(self.key.sign(message))
        header = write_header(Credentials(self.name, self.key.key_id, signature, server.name))  # type: ignore[arg-type]
        connection = self._connections.get(server.port)
        if connection is None:
            connection = self._connections[server.port] = http.client.HTTPConnection(
                "127.0.0.1", server.port, timeout=600
            )
        headers = {"Authorization": header, "Content-Type": "application/json"}
        try:
            connection.request(method, uri, body, headers)
            answer = connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):  # it had been quiet for long
            connection.close()
            connection.request(method, uri, body, headers)
            answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (uri, answer.status, text[:500])
        return json.loads(text)

    def send(self, server: Server, events: Sequence[Event]) -> None:
        """One transaction. The server must take every event of it."""
        pdus = b",".join(event.raw for event in events)
        body = b'{"origin":%b,"origin_server_ts":%d,"pdus":[%b]}' % (
            json.dumps(self.name).encode(), time.time_ns() // 1_000_000, pdus,
        )  # fmt: skip
        answer = self.ask(server, "PUT", f"{V1}/send/{next(self._transactions)}", body)
        refused = {event_id: verdict for event_id, verdict in answer["pdus"].items() if verdict}
        assert not refused, list(refused.items())[:3]

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def person(self, localpart: str) -> str:
        return f"@{localpart}:{self.name}"


@define(eq=False)
class Strangers:
    """All of a run."""

    town: Town
    heard: defaultdict[str, set[str]] = field(factory=lambda: defaultdict(set))
    """What was said to each of them, by its name."""
    _by_name: dict[str, Stranger] = field(factory=dict)
    _server: _Server = field(init=False)

    def __attrs_post_init__(self) -> None:
        strangers = self

        class Handler(_Handler):
            owner = strangers

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for stranger in self._by_name.values():
            stranger.close()
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str | None = None, key: SigningKey | None = None) -> Stranger:
        """One more, at an address of its own, or one of an earlier run."""
        if name is None:
            number = len(self._by_name)
            host = f"127.0.{1 + number // 200}.{1 + number % 200}"
            name = f"{host}:{free_port(host)}"
        host, _, port = name.partition(":")
        tls = self.town.authority.issue(host)
        files = str(tls.certificate_path), str(tls.key_path)
        self.town.lines.open(NewLine(name, host, int(port), *files, self._server.server_port))
        self._by_name[name] = stranger = Stranger(name, key or SigningKey.generate("stranger"))
        return stranger

    def keys_of(self, name: str) -> dict[str, Any] | None:
        stranger = self._by_name.get(name)
        if stranger is None:
            return None
        value = {
            "server_name": name,
            "valid_until_ts": time.time_ns() // 1_000_000 + 86_400_000,
            "verify_keys": {stranger.key.key_id: {"key": encode_base64(stranger.key.verify_key)}},
            "old_verify_keys": {},
        }
        return sign_json(value, name, stranger.key)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    """All of them may be spoken to at once. With the usual 5, most of that had to knock again for seconds."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ClassVar[Strangers]

    def do_GET(self) -> None:
        keys = self.owner.keys_of(self.headers["Host"]) if self.path.startswith("/_matrix/key/v2/server") else None
        self._answer(404 if keys is None else 200, keys or {"errcode": "M_UNRECOGNIZED", "error": "no"})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = [pdu["content"].get("body") for pdu in body.get("pdus", ())]
        self.owner.heard[self.headers["Host"]].update(text for text in texts if isinstance(text, str))
        self._answer(200, {"pdus": {}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(404, {"errcode": "M_UNRECOGNIZED", "error": "no"})

    def log_message(self, format: str, *args: object) -> None: ...

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@define(eq=False)
class Branch:
    """A line of events in a room on some server, made one after the other by strangers."""

    room_id: str
    tip: list[str]
    depth: int
    create: str
    power: str
    join_rules: str
    power_content: dict[str, Any]
    members: dict[str, str]
    """User id → the event that lets them in."""
    ts: int

    def copy(self) -> Branch:
        return Branch(
            self.room_id, list(self.tip), self.depth, self.create, self.power, self.join_rules,
            dict(self.power_content), dict(self.members), self.ts,
        )  # fmt: skip

    def say(self, by: Stranger, sender: str, text: str) -> Event:
        return self._make(by, sender, "m.room.message", {"msgtype": "m.text", "body": text}, None)

    def set(self, by: Stranger, sender: str, event_type: str, state_key: str, content: dict[str, Any]) -> Event:
        event = self._make(by, sender, event_type, content, state_key)
        if event_type == "m.room.power_levels":
            self.power, self.power_content = event.event_id, content
        return event

    def join(self, by: Stranger, user_id: str) -> Event:
        content = {"membership": "join", "displayname": user_id.partition(":")[0][1:]}
        event = self._make(by, user_id, "m.room.member", content, user_id, [self.join_rules])
        self.members[user_id] = event.event_id
        return event

    def _make(
        self, by: Stranger, sender: str, event_type: str, content: dict[str, Any], state_key: str | None,
        cited: Sequence[str] | None = None,
    ) -> Event:  # fmt: skip
        self.ts += 10
        event = build_event(
            VERSION,
            room_id=self.room_id,
            type=event_type,
            sender=sender,
            content=content,
            prev_events=self.tip,
            auth_events=[self.create, self.power, *([self.members[sender]] if cited is None else cited)],
            depth=self.depth,
            origin_server_ts=self.ts,
            server_name=by.name,
            key=by.key,
            state_key=state_key,
        )
        self.tip, self.depth = [event.event_id], self.depth + 1
        return event


def enter(by: Stranger, server: Server, room_id: str, user_id: str) -> Branch:
    """Join a room over the server, as any server does; the line of events that begins there."""
    path = f"/{quote(room_id, safe='')}/"
    made = by.ask(server, "GET", f"{V1}/make_join{path}{quote(user_id, safe='')}?ver=11")["event"]
    ts = time.time_ns() // 1_000_000
    join = build_event(
        VERSION,
        room_id=room_id,
        type="m.room.member",
        sender=user_id,
        content={"membership": "join"},
        prev_events=made["prev_events"],
        auth_events=made["auth_events"],
        depth=made["depth"],
        origin_server_ts=ts,
        server_name=by.name,
        key=by.key,
        state_key=user_id,
    )
    answer = by.ask(server, "PUT", f"/_matrix/federation/v2/send_join{path}{quote(join.event_id, safe='')}", join.raw)
    state = {}
    for raw in answer["state"]:
        event = parse_pdu(VERSION, canonical_json(raw))
        state[event.type, event.state_key] = event
    power = state["m.room.power_levels", ""]
    return Branch(
        room_id, [join.event_id], join.depth + 1, state["m.room.create", ""].event_id, power.event_id,
        state["m.room.join_rules", ""].event_id, dict(power.content), {user_id: join.event_id}, ts,
    )  # fmt: skip

"""The gateway beside `/sync`, in one run: what idle connections take, and how soon a busy channel is heard.

    CONNECTIONS=5000 EACH=10 MEMBERS=1000 MESSAGES=20 .venv/bin/python -m pytest tests/bench/beside_sync.py -s

Clients are bare sockets in this process: they share the machine with the server, whichever way they listen.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from tests.bench.rivals import cpu_s, settle
from tests.bench.table import Table
from tests.fixtures_server import Person, ServerProcess, running_servers
from tests.gateway.wire import Wire

CONNECTIONS = int(os.environ.get("CONNECTIONS", "5000"))
MEMBERS = int(os.environ.get("MEMBERS", "1000"))
MESSAGES = int(os.environ.get("MESSAGES", "20"))
EACH = int(os.environ.get("EACH", "10"))
"""Idle connections of one account."""
V3 = "/_matrix/client/v3"
FILTER = json.dumps({"room": {"state": {"lazy_load_members": True}}, "presence": {"not_types": ["*"]}})


def resident_kib(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.timeout(0)
def test_beside_sync(tmp_path_factory: pytest.TempPathFactory) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    table = Table("The gateway, beside /sync", ["", "gateway", "/sync"])
    with running_servers(lambda: tmp_path_factory.mktemp("server")) as start:
        server = start(presence__enabled="false")
        weigh(server, table)
        members = [server.register(f"member{number}") for number in range(MEMBERS)]
        room_id = members[0].call("POST", f"{V3}/createRoom", {"preset": "public_chat"})["room_id"]
        for member in members[1:]:
            member.call("POST", f"{V3}/join/{room_id}", {})
        gateway = [open_gateway(member) for member in members]
        on_gateway = measure(server, members[0], room_id, [GatewayEar(wire) for wire in gateway])
        on_sync = measure(server, members[0], room_id, [SyncEar(member) for member in members])
        for name, one, other in zip(on_gateway, on_gateway.values(), on_sync.values(), strict=True):
            table.add(name, one, other)
    table.print()


def weigh(server: ServerProcess, table: Table) -> None:
    people = [server.register(f"idler{number}") for number in range(CONNECTIONS // EACH)]
    open_gateway(people[0]).drop()  # what is loaded for the first
    settle(server)
    before = resident_kib(server)
    wires = [open_gateway(person) for person in people for _ in range(EACH)]
    settle(server)
    table.add(f"KiB an idle connection, of {len(wires):,}", (resident_kib(server) - before) / len(wires), "")
    for wire in wires:
        wire.drop()
    settle(server)


def open_gateway(person: Person) -> Wire:
    wire = Wire(person.server.port)
    wire.say({"op": "identify", "token": person.token, "intents": ["message"]})
    assert wire.hear()["op"] == "ready"
    return wire


class GatewayEar:
    """Hears a message once its bytes are there."""

    def __init__(self, wire: Wire) -> None:
        self.socket = wire.socket
        self._heard = b""

    def listen(self) -> None: ...

    def hear(self, mark: bytes) -> bool:
        self._heard += self.socket.recv(65536)
        if mark not in self._heard:
            return False
        self._heard = b""
        return True


class SyncEar:
    """Asks again as soon as it was answered."""

    def __init__(self, person: Person) -> None:

        self._token = person.token
        self._since = person.call("GET", f"{V3}/sync", query={"filter": FILTER})["next_batch"]
        self.socket = socket.create_connection(("127.0.0.1", person.server.port))
        self._heard = b""

    def listen(self) -> None:

        target = f"{V3}/sync?timeout=60000&since={self._since}&filter={quote(FILTER)}"
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        self.socket.sendall(head.encode())

    def hear(self, mark: bytes) -> bool:
        self._heard += self.socket.recv(65536)
        head, separator, body = self._heard.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return False
        self._heard = b""
        self._since = body.partition(b'"next_batch":"')[2].partition(b'"')[0].decode()
        self.listen()
        return mark in body


def measure(server: ServerProcess, sender: Person, room_id: str, ears: Sequence[Any]) -> dict[str, float]:
    selector = selectors.DefaultSelector()
    for ear in ears:
        ear.listen()
        selector.register(ear.socket, selectors.EVENT_READ, ear)
    settle(server)
    delays: list[float] = []
    cpu = cpu_s(server)
    for number in range(MESSAGES):
        mark = f"{type(ears[0]).__name__}-{number}"
        began = time.perf_counter()
        sending = in_background(lambda mark=mark: say(sender, room_id, mark))  # type: ignore[misc]
        missing = len(ears)
        while missing:
            for key, _ in selector.select():
                if key.data.hear(mark.encode()):
                    delays.append(time.perf_counter() - began)
                    missing -= 1
        sending.join()
        settle(server)
    cpu = cpu_s(server) - cpu
    selector.close()
    for ear in ears:
        ear.socket.close()
    delays.sort()
    return {
        f"ms until half of {len(ears):,} members heard": 1000 * delays[len(delays) // 2],
        "ms, p99": 1000 * delays[len(delays) * 99 // 100],
        "CPU µs a copy": 1e6 * cpu / len(delays),
    }


def say(sender: Person, room_id: str, text: str) -> None:
    sender.call("PUT", f"{V3}/rooms/{room_id}/send/m.room.message/{text}", {"msgtype": "m.text", "body": text})


def in_background(work: Callable[[], None]) -> Thread:
    thread = Thread(target=work)
    thread.start()
    return thread

"""A server that asks others over a network in memory."""

from __future__ import annotations

from typing import Any

import orjson
from attrs import define

from federation.outbound.client import FederationClient
from federation.outbound.transport import Request, Response
from federation.room.signing import SigningKey
from homeserver.clock import Clock
from homeserver.queries.build import Asking, build_asking
from tests.federation.doubles import Calendar, Network, answer

HERE, PEER = "here.example", "peer.example"


@define
class Scene:
    calendar: Calendar
    network: Network
    asking: Asking

    @classmethod
    def open(cls) -> Scene:
        calendar, network = Calendar(), Network()
        client = FederationClient(HERE, SigningKey.generate("test"), network)
        return cls(calendar, network, build_asking(HERE, client, Clock(calendar, calendar.now_ms)))

    def answers(self, body: object, status: int = 200, server: str = PEER) -> None:
        """What a server says from now on, whatever it is asked."""
        self.network.servers[server] = lambda request: answer(body, status)

    def refuses(self, status: int, errcode: str = "M_UNKNOWN", error: str = "no") -> None:
        self.answers({"errcode": errcode, "error": error}, status)

    def writes_down(self, body: object) -> list[tuple[str, str, Any]]:
        """As `answers`; method, path and body of each request go into the list."""
        heard: list[tuple[str, str, Any]] = []

        def serve(request: Request) -> Response:
            heard.append((request.method, request.path, orjson.loads(request.body) if request.body else None))
            return answer(body)

        self.network.servers[PEER] = serve
        return heard


DEEP = b"[" * 900 + b"]" * 900
"""Nested more deeply than what writes JSON can follow."""

NOT_ANSWERS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"17",
    b"\xff\xfe",
    b'{"room_id":"\xff","chunk":"\xff","displayname":"\xff"}',
    b'{"room_id":"\\ud800","chunk":["\\ud800"],"displayname":"\\ud800"}',
    b"[" * 100_000,
    b'{"room_id":' * 100_000,
    b'{"room_id":1e999,"chunk":1e999,"displayname":1e999}',
]
"""Bodies that are no answer to any question."""

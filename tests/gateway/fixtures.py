"""Connections in a house, without sockets: what is written to each goes into a list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
from attrs import define, field

from homeserver.gateway.codes import Close
from homeserver.gateway.connection import Connection
from homeserver.http.route import Requester, RequestInfo
from tests.fixtures_house import LivedInHouse

INFO = RequestInfo("127.0.0.1", "test", "1")


@define(eq=False)
class Trusting:
    """A token is the name of somebody who lives here, and perhaps a device: `ann/PHONE`."""

    house: LivedInHouse

    def recall(self, token: str) -> Requester | None:
        name, _, device_id = token.partition("/")
        return self.house.who(name, device_id or "DEVICE")

    async def find(self, token: str) -> Requester:
        raise NotImplementedError

    def note_use(self, who: Requester, info: object) -> None: ...


@define(eq=False)
class Ear:
    """A client that takes what it is given, until it is told to be slow."""

    house: LivedInHouse
    sent: list[Any] = field(factory=list)
    is_full: bool = False
    is_held: bool = False
    ended: Close | None = None
    capacity: int = 10**9
    """Messages that it takes before it is full."""
    session: str = ""
    seq: int = -1
    connection: Connection = field(init=False)

    def send(self, payload: bytes) -> None:
        message = orjson.loads(payload)
        self.sent.append(message)
        if message["op"] in ("event", "ready"):
            assert message["seq"] >= self.seq, message
            self.seq = message["seq"]
            self.session = message.get("session", self.session)
        self.capacity -= 1
        if self.capacity <= 0:
            self.is_full = True
            self.connection.filled()

    def hold(self, is_held: bool) -> None:
        self.is_held = is_held

    def admit(self) -> None: ...

    def close(self, why: Close) -> None:
        self.ended = why
        self.connection.closed()

    def abort(self) -> None:
        self.connection.closed()

    # -- in tests ----------------------------------------------------------------------------------------------

    def say(self, **message: Any) -> None:
        self.connection.heard(orjson.dumps(message))

    def take(self, number: int) -> None:
        """Take so many messages more."""
        self.capacity = number
        self.is_full = False
        self.connection.drained()

    def drop(self) -> None:
        self.connection.closed()

    def messages(self) -> list[Any]:
        """What came since the last look."""
        settle(self.house)
        sent, self.sent = self.sent, []
        return sent

    def news(self, *shown: str) -> list[tuple[Any, ...]]:
        """The events that came: their type, and those of these members of `data` that are there."""
        return [
            (one["type"], *(one["data"][name] for name in shown if name in one["data"]))
            for one in self.messages()
            if one["op"] == "event"
        ]


def connect(
    house: LivedInHouse,
    token: str,
    intents: Sequence[str] | None = None,
    *,
    room_id: str | None = None,
    after: Ear | None = None,
    capacity: int = 10**9,
) -> Ear:
    """Connect and identify; `after`: a connection that is to be resumed."""
    lobby = house.house.gateway.lobby
    services = msgspec.structs.replace(lobby.services, authenticate=Trusting(house))
    ear = Ear(house, capacity=capacity)
    ear.connection = Connection(lobby, services, INFO, room_id)
    ear.connection.line = ear
    ear.connection.opened()
    resume = {} if after is None else {"resume": {"session": after.session, "seq": after.seq}}
    if after is not None:
        ear.seq, ear.session = after.seq, after.session
    ear.say(op="identify", token=token, **({} if intents is None else {"intents": list(intents)}), **resume)
    settle(house)
    return ear


def settle(house: LivedInHouse) -> None:
    """Let everything that is under way come to its end, and half a second pass."""
    for seconds in (0.0, 0.6, 0.0):
        house.advance(seconds)
        until = time.monotonic() + 60
        while house.house.tasks.names:
            assert time.monotonic() < until, f"still busy: {house.house.tasks.names}"
            house.wait(house.house.database.run(lambda cursor: None))
            house.advance(0)
            time.sleep(0.001)

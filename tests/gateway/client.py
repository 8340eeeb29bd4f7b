"""A gateway client as one would write it: it knows its session and place, and resumes.

bot = GatewayClient(server.port, token)
bot.call("message.send", room_id=..., content=...)
bot.events(3)                     # the next three, as (type, data)
bot.reconnect()                   # from where it was, whatever happened to the line
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any

from tests.gateway.wire import Wire


class CallFailed(Exception):
    def __init__(self, error: Any) -> None:
        super().__init__(f"{error['errcode']}: {error['error']}")
        self.errcode = error["errcode"]
        self.error = error


class GatewayClient:
    """One person's connection, and the next."""

    def __init__(self, port: int, token: str, intents: Sequence[str] | None = None, query: str = "") -> None:
        self.port, self.token, self.intents = port, token, intents
        self.session, self.seq = "", 0
        self.ready: Any = None
        self.heard: deque[Any] = deque()
        """Events that came and were not asked for yet."""
        self._ids = count(1)
        self.wire = Wire(port, query)
        self._identify()

    def _identify(self, **more: Any) -> None:
        intents = {} if self.intents is None else {"intents": self.intents}
        self.wire.say({"op": "identify", "token": self.token, **intents, **more})
        if not more:
            self._take_ready(self.wire.hear())

    def _take_ready(self, message: Any) -> None:
        assert message["op"] == "ready", message
        self.ready, self.session, self.seq = message, message["session"], message["seq"]

    def reconnect(self, port: int | None = None) -> None:
        """Resume. Whether that is possible shows in what comes: events, or `invalid_session` and a new beginning."""
        self.wire.drop()
        self.port = self.port if port is None else port
        self.wire = Wire(self.port)
        self._identify(resume={"session": self.session, "seq": self.seq})

    def next(self) -> tuple[str, Any]:
        """The next event. Raises Closed."""
        while not self.heard:
            self._hear()
        event = self.heard.popleft()
        return event["type"], event["data"]

    def events(self, number: int) -> list[tuple[str, Any]]:
        return [self.next() for _ in range(number)]

    def until(self, kind: str) -> Any:
        """Skip events up to one of this type; its data."""
        while True:
            found, data = self.next()
            if found == kind:
                return data

    def call(self, method: str, /, **params: Any) -> Any:
        """Ask, and wait for the result. Raises CallFailed."""
        number = next(self._ids)
        self.wire.say({"op": "call", "id": number, "method": method, "params": params})
        while True:
            message = self._hear()
            if message["op"] == "result" and message["id"] == number:
                if "error" in message:
                    raise CallFailed(message["error"])
                return message["ok"]

    def _hear(self) -> Any:
        message = self.wire.hear()
        match message["op"]:
            case "event":
                assert message["seq"] >= self.seq, message
                self.seq = message["seq"]
                self.heard.append(message)
            case "ping":
                self.wire.say({"op": "pong"})
            case "ready":
                self._take_ready(message)
        return message

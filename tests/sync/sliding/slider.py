"""A client of sliding sync in the test's own process: it asks as today's clients do, and goes on from there."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from attrs import define, field
from twisted.internet.defer import Deferred

from homeserver.client.sliding import unstable
from homeserver.sync.sliding.engine import SlidingSync
from tests.fixtures_house import LivedInHouse

STATE = [["m.room.create", ""], ["m.room.name", ""], ["m.room.topic", ""], ["m.room.member", "$ME"]]


def rooms(first: int = 0, last: int = 19, *, limit: int = 10, state: Any = STATE, **filters: Any) -> dict[str, Any]:
    """One list."""
    asked = {"ranges": [[first, last]], "required_state": state, "timeline_limit": limit}
    return {**asked, "filters": filters} if filters else asked


def subscription(*, limit: int = 10, state: Any = STATE) -> dict[str, Any]:
    return {"required_state": state, "timeline_limit": limit}


@define
class Slider:
    house: LivedInHouse
    name: str
    body: dict[str, Any] = field(factory=lambda: {"lists": {"all": rooms()}})
    """What it asks for, each time."""
    pos: str | None = None
    device_id: str = "DEVICE"

    def start(self, timeout_ms: int = 0) -> Deferred[bytes]:
        given = {**self.body, "timeout": timeout_ms, **({} if self.pos is None else {"pos": self.pos})}
        who = self.house.who(self.name, self.device_id)
        ask = msgspec.convert(given, unstable.SlidingShape).read(who.user_id)

        async def sync() -> bytes:
            return unstable.write(await self.house.house.part(SlidingSync).sync(who, ask))

        return Deferred.fromCoroutine(sync())

    def take(self, answer: bytes) -> dict[str, Any]:
        told: dict[str, Any] = orjson.loads(answer)
        self.pos = told["pos"]
        return told

    def ask(self, **changes: Any) -> dict[str, Any]:
        """One request without waiting. `changes` hold for later ones too."""
        self.body.update(changes)
        return self.take(self.house.wait(self.start()))

    def rooms(self, **changes: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(**changes)["rooms"]
        return found

    def extension(self, name: str, **changes: Any) -> Any:
        return self.ask(**changes)["extensions"].get(name)


def bodies(room: dict[str, Any]) -> list[str]:
    """What was said in a room's timeline."""
    return [event["content"]["body"] for event in room["timeline"] if event["type"] == "m.room.message"]


def state_of(room: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(event["type"], event["state_key"]): event["content"] for event in room["required_state"]}

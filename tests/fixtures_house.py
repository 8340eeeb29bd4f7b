"""A whole server in the test's own process, on one fake clock: everything that `homeserver.app` builds but sockets.

def test_something(house: TestHouse) -> None:
    room_id = house.town.create("alice", preset="public_chat")
    house.sync("alice")
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import orjson
import pytest
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock as FakeTimers

from config import make_settings
from federation.room.signing import SigningKey, write_signing_key
from homeserver.app import House, build
from homeserver.clock import Clock
from homeserver.http.route import Requester
from homeserver.rooms.create import CreateRoom, RoomMaker
from homeserver.rooms.history import History, PageAsk
from homeserver.rooms.membership import Memberships
from homeserver.rooms.send import Sender
from homeserver.streams.tokens import RoomToken, parse_stream_token
from homeserver.sync.engine import Sync, SyncAsk
from homeserver.sync.filters import NO_EVENT_FILTER, parse_filter
from tests.fixtures_db import SERVER_NAME, Pump
from tests.fixtures_rooms import user

T = TypeVar("T")

START_MS = 1_700_000_000_000
QUIET = {"next_batch", "device_one_time_keys_count", "device_unused_fallback_key_types"}
"""The members of a `/sync` answer that has nothing new to tell."""


class StillReactor(Pump):
    """A reactor without sockets whose time stands still until the test lets it pass."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = FakeTimers()

    def callLater(self, delay: float, callable: Any, *args: object, **kwargs: object) -> IDelayedCall:
        call: IDelayedCall = self.timers.callLater(delay, callable, *args, **kwargs)
        return call

    def seconds(self) -> float:
        return float(self.timers.seconds())

    def getDelayedCalls(self) -> Any:
        return self.timers.getDelayedCalls()


@define(repr=False)
class LivedInHouse:
    """A house and the short ways of doing things in it. People are named by their localparts."""

    house: House
    reactor: StillReactor

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.reactor.wait(awaitable)

    def advance(self, seconds: float) -> None:
        self.reactor.timers.advance(seconds)

    def user(self, name: str) -> str:
        """The user id of somebody who lives here."""
        return user(name)

    def who(self, name: str, device_id: str = "DEVICE") -> Requester:
        return Requester(self.user(name), device_id, name.encode())

    def create(self, name: str, /, **body: Any) -> str:
        return self.wait(self.house.part(RoomMaker).create(self.user(name), msgspec.convert(body, CreateRoom)))

    def say(self, name: str, room_id: str, text: str, txn_id: str | None = None) -> str:
        content = {"msgtype": "m.text", "body": text}
        send = self.house.part(Sender).message(self.who(name), room_id, "m.room.message", content, txn_id or text)
        return self.wait(send)

    def set_state(self, name: str, room_id: str, event_type: str, content: dict[str, Any], key: str = "") -> str:
        return self.wait(self.house.part(Sender).state(self.user(name), room_id, event_type, key, content))

    def redact(self, name: str, room_id: str, event_id: str) -> str:
        return self.wait(self.house.part(Sender).redact(self.who(name), room_id, event_id, {}, event_id))

    @property
    def memberships(self) -> Memberships:
        return self.house.part(Memberships)

    def join(self, name: str, room_id: str) -> None:
        self.wait(self.memberships.join(room_id, self.user(name)))

    def leave(self, name: str, room_id: str) -> None:
        self.wait(self.memberships.leave(room_id, self.user(name)))

    def start_sync(
        self,
        name: str,
        since: str | None = None,
        *,
        timeout_ms: int = 0,
        filter: Any = None,
        full_state: bool = False,
        use_state_after: bool = False,
        device_id: str = "DEVICE",
    ) -> Deferred[bytes]:
        ask = SyncAsk(
            filter=parse_filter(filter or {}),
            since=None if since is None else parse_stream_token(since),
            full_state=full_state,
            timeout_ms=timeout_ms,
            use_state_after=use_state_after,
        )
        return Deferred.fromCoroutine(self.house.part(Sync).sync(self.who(name, device_id), ask))

    def sync(self, name: str, since: str | None = None, **manner: Any) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(self.wait(self.start_sync(name, since, **manner)))
        return answer

    def page(self, name: str, room_id: str, start: RoomToken | None, stop: int | None, limit: int = 100) -> list[str]:
        """Event ids of one page back in time, newest first."""
        ask = PageAsk(backwards=True, start=start, stop=stop, limit=limit, filter=NO_EVENT_FILTER)
        page = self.wait(self.house.part(History).page(room_id, self.user(name), ask))
        return [stored.event.event_id for stored, _ in page.events]


def open_house(directory: Path, database_url: str, reactor: StillReactor | None = None) -> LivedInHouse:
    """Build a house on that database. `directory` is for the signing key, which is kept if it is there."""
    key = directory / "signing.key"
    if not key.exists():
        key.write_text(write_signing_key(SigningKey.generate("test")))
    settings = make_settings(
        {
            "profile": "test",
            "server": {"name": SERVER_NAME, "data_dir": str(directory), "signing_key_path": str(key)},
            "database": {"url": database_url},
        }
    )
    reactor = reactor or StillReactor()
    ticks = iter(range(START_MS, START_MS + 10**12, 10))
    return LivedInHouse(build(settings, reactor, Clock(reactor.timers, lambda: next(ticks))), reactor)


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[LivedInHouse]:
    """A house on an empty database: a test with it runs on SQLite and on PostgreSQL."""
    opened = open_house(tmp_path, database_url)
    yield opened
    opened.wait(opened.house.close())

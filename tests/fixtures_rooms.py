"""The room engine on a database, without HTTP: rooms are made and lived in by the house's own parts.

def test_something(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    event_id = town.say("alice", room_id, "hello")
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
import msgspec
import orjson
import pytest
from attrs import define
from twisted.internet.task import Clock as FakeTimers

from config import make_settings
from federation.room.signing import SigningKey
from homeserver.clock import Clock
from homeserver.http.answer import encode_json
from homeserver.http.route import Reply, Requester
from homeserver.relations.build import Relating, build_relations
from homeserver.relations.bundles import Bundles
from homeserver.rooms.accept import Door
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.aliases import Aliases, NoRemoteAliases
from homeserver.rooms.compose import Identity, Means, Template
from homeserver.rooms.create import CreateRoom, RoomMaker
from homeserver.rooms.directory import Directory, DirectoryPolicy, NoRemoteDirectory
from homeserver.rooms.events import EventCache
from homeserver.rooms.founding import Founder
from homeserver.rooms.history import History
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import Memberships, NoElsewhere
from homeserver.rooms.registry import Rooms
from homeserver.rooms.state_view import StateView
from homeserver.rooms.visibility import Visibility
from homeserver.rooms.vouching import Vouching
from homeserver.streams.hub import Hub
from homeserver.userdata.ignoring import Ignoring
from storage.database import Database
from storage.ports import StoredEvent
from tests.fixtures_db import SERVER_NAME, Pump

T = TypeVar("T")

SETTINGS = make_settings({"profile": "test", "server": {"name": SERVER_NAME}})


def user(name: str) -> str:
    return name if name.startswith("@") else f"@{name}:{SERVER_NAME}"


class Names:
    """Profiles where everybody is called by their localpart."""

    async def displayname_and_avatar(self, user_id: str) -> tuple[str | None, str | None]:
        return user_id[1:].partition(":")[0].title(), None


@define(repr=False)
class Town:
    """Everything that rooms are made of, and people by their first names."""

    pump: Pump
    database: Database
    clock: Clock
    hub: Hub
    events: EventCache
    rooms: Rooms
    door: Door
    memberships: Memberships
    maker: RoomMaker
    visibility: Visibility
    access: RoomAccess
    history: History
    relating: Relating
    state: StateView
    aliases: Aliases
    directory: Directory

    @property
    def reading(self) -> tuple[History, Bundles, Clock]:
        """What handlers that show events take in front."""
        return self.history, self.relating.bundles, self.clock

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.pump.wait(awaitable)

    def who(self, name: str, is_admin: bool = False) -> Requester:
        return Requester(user(name), name.upper(), name.encode(), is_admin=is_admin)

    def room(self, room_id: str) -> LiveRoom:
        return self.wait(self.rooms.require(room_id))

    def create(self, name: str, /, **body: Any) -> str:
        """Make a room; `body` is that of `createRoom`. Answers its id."""
        return self.wait(self.maker.create(user(name), msgspec.convert(body, CreateRoom)))

    def send(
        self, name: str, room_id: str, event_type: str, content: Mapping[str, Any], state_key: str | None = None
    ) -> StoredEvent:
        template = Template(event_type, user(name), dict(content), state_key)
        return self.wait(self.door.send(room_id, [template]))[0]

    def say(self, name: str, room_id: str, text: str) -> str:
        """Send a message; its event id."""
        return self.send(name, room_id, "m.room.message", {"msgtype": "m.text", "body": text}).event.event_id

    def join(self, name: str, room_id: str) -> None:
        self.wait(self.memberships.join(room_id, user(name)))

    def leave(self, name: str, room_id: str) -> None:
        self.wait(self.memberships.leave(room_id, user(name)))

    def invite(self, sender: str, name: str, room_id: str) -> None:
        self.wait(self.memberships.invite(room_id, user(sender), user(name)))

    def kick(self, sender: str, name: str, room_id: str) -> None:
        self.wait(self.memberships.kick(room_id, user(sender), user(name)))

    def ban(self, sender: str, name: str, room_id: str) -> None:
        self.wait(self.memberships.ban(room_id, user(sender), user(name)))

    def unban(self, sender: str, name: str, room_id: str) -> None:
        self.wait(self.memberships.unban(room_id, user(sender), user(name)))

    def forget(self, name: str, room_id: str) -> None:
        self.wait(self.memberships.forget(room_id, user(name)))

    def answer(self, handler: Awaitable[Any]) -> Any:
        """What a client would read as the answer of a handler, parsed."""
        result = self.wait(handler)
        body = result.body if isinstance(result, Reply) else result
        return orjson.loads(body if isinstance(body, bytes) else encode_json(body))

    def fresh_readers(self) -> Town:
        """The same town with nothing of what its readers remember."""
        visibility = Visibility(self.database, self.events, SERVER_NAME)
        access = RoomAccess(self.rooms, visibility, self.database)
        ignoring = Ignoring(self.database)
        history = History(self.database, access, visibility, self.events, self.hub, ignoring)
        return attrs.evolve(
            self,
            visibility=visibility,
            access=access,
            history=history,
            relating=build_relations(self.database, history, ignoring, SERVER_NAME),
            state=StateView(self.database, access, self.events),
        )


def build_town(database: Database, pump: Pump) -> Town:
    timers = FakeTimers()
    ticks = iter(range(1_700_000_000_000, 2_000_000_000_000, 10))
    clock = Clock(timers, lambda: next(ticks))
    hub = Hub(clock, database.counters.position - 1)
    database.on_commit(hub.committed)
    events = EventCache(database, 4 * 1024 * 1024)
    rooms = Rooms(database, events, hub, SERVER_NAME)
    identity = Identity(SERVER_NAME, SigningKey.generate("test"))
    door = Door(Means(identity, clock, database.counters, events), database, rooms, hub)
    visibility = Visibility(database, events, SERVER_NAME)
    access = RoomAccess(rooms, visibility, database)
    aliases = Aliases(door, access, database, NoRemoteAliases())
    directory = Directory(database, rooms, aliases, DirectoryPolicy(SERVER_NAME, True), NoRemoteDirectory())
    door.observers.append(directory)
    ignoring = Ignoring(database)
    history = History(database, access, visibility, events, hub, ignoring)
    return Town(
        pump=pump,
        database=database,
        clock=clock,
        hub=hub,
        events=events,
        rooms=rooms,
        door=door,
        memberships=Memberships(door, rooms, database, Names(), Vouching(door, rooms), NoElsewhere()),
        maker=RoomMaker(door, database, SETTINGS, Names(), NoElsewhere(), Founder(door.means)),
        visibility=visibility,
        access=access,
        history=history,
        relating=build_relations(database, history, ignoring, SERVER_NAME),
        state=StateView(database, access, events),
        aliases=aliases,
        directory=directory,
    )


@pytest.fixture
def town(database: Database, pump: Pump) -> Iterator[Town]:
    """A town on an empty database: a test with it runs on SQLite and on PostgreSQL."""
    yield build_town(database, pump)

"""What people keep and what passes between them, in a town (`tests.fixtures_rooms`) and on one fake clock.

def test_something(household: Household) -> None:
    room_id = household.town.create("alice", preset="public_chat")
    feed = household.feed("alice")
    household.advance(0.5)
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, TypeVar

import orjson
import pytest
from attrs import define
from twisted.internet.task import Clock as FakeTimers

from config import Presence
from homeserver.clock import Clock
from homeserver.encryption.whereabouts import Whereabouts
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.ephemeral.room_watch import RoomWatch
from homeserver.ephemeral.threads import Threads
from homeserver.ephemeral.typing import TypingBoard
from homeserver.streams.hub import Feed
from homeserver.sync.feeds import FeedLoader
from homeserver.tasks import Tasks
from homeserver.userdata.account_data import AccountData
from homeserver.userdata.filters import FilterService
from homeserver.userdata.profiles import Profiles
from homeserver.userdata.read_markers import ReadMarkers
from homeserver.userdata.tags import Tags
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_rooms import Town, build_town, user

T = TypeVar("T")

START_MS = 1_700_000_000_000


@define
class Household:
    """The services of user data around a town's rooms."""

    town: Town
    timers: FakeTimers
    clock: Clock
    tasks: Tasks
    typing: TypingBoard
    receipts: ReceiptBoard
    threads: Threads
    account_data: AccountData
    markers: ReadMarkers
    tags: Tags
    profiles: Profiles
    filters: FilterService
    presence: PresenceBoard
    feeds: FeedLoader

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.town.wait(awaitable)

    def settle(self) -> None:
        """Let what goes on in the background come to its end."""
        while self.tasks.names:
            self.wait(self.town.database.run(lambda cursor: None))

    def advance(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        end = self.timers.seconds() + seconds
        while self.timers.seconds() < end:
            self.timers.advance(min(0.5, end - self.timers.seconds()))
            self.settle()
            self.timers.advance(0)  # what asked to be called soon

    def feed(self, name: str) -> Feed:
        return self.wait(self.feeds.get(user(name)))

    def nid(self, room_id: str) -> int:
        return self.town.room(room_id).nid

    def rerun(self, largest_crowd: int = 100, enabled: bool = True) -> Household:
        """The same house on the same database with nothing of what it remembers."""
        return build_household(self.town, self.timers, Presence(largest_crowd=largest_crowd, enabled=enabled))


def parsed(events: Sequence[bytes]) -> list[Any]:
    return [orjson.loads(event) for event in events]


def build_household(town: Town, timers: FakeTimers, settings: Presence) -> Household:
    clock = Clock(timers, lambda: START_MS + round(timers.seconds() * 1000))
    database, hub, tasks = town.database, town.hub, Tasks()
    profiles = Profiles(database, Whereabouts(database))
    typing = TypingBoard(hub, clock)
    receipts = ReceiptBoard(hub, database)
    account_data = AccountData(hub, database)
    presence = PresenceBoard(hub, database, clock, settings, tasks, profiles.peek)
    profiles.listeners.append(presence)
    town.door.observers[:] = [
        *(one for one in town.door.observers if not isinstance(one, RoomWatch)),
        RoomWatch(typing, presence, SERVER_NAME),
    ]
    return Household(
        town=town,
        timers=timers,
        clock=clock,
        tasks=tasks,
        typing=typing,
        receipts=receipts,
        threads=Threads(database, town.events),
        account_data=account_data,
        markers=ReadMarkers(database, receipts, account_data, clock),
        tags=Tags(account_data),
        profiles=profiles,
        filters=FilterService(database),
        presence=presence,
        feeds=FeedLoader(hub, database, clock),
    )


@pytest.fixture
def household(town: Town) -> Iterator[Household]:
    """On an empty database: a test with it runs on SQLite and on PostgreSQL."""
    timers = town.clock.timers
    assert isinstance(timers, FakeTimers)
    made = build_household(town, timers, Presence())
    yield made
    town.wait(made.presence.close())
    made.typing.stop_timers()


__all__ = ["Household", "build_household", "build_town", "household", "parsed", "user"]

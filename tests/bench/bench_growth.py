"""Does an operation cost more in a big room, or in one with a long past? It should not, but for the fan-out itself.

Each size has a house of its own, so that its database is as big as the room makes it. The sizes are measured in
turn, round after round: what else happens on the machine meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from attrs import define, field

from homeserver.rooms.history import History, PageAsk
from homeserver.sync.filters import NO_EVENT_FILTER, Filter
from tests.bench.busy import AT_ONCE, LAZY, OPEN, BusyHouse, next_batch, open_busy_house
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table
from tests.fixtures_db import PostgresServer
from tests.fixtures_rooms import user

MEMBERS = (10, 1_000, 10_000)
EVENTS = (100, 10_000, 100_000)
STATE_EVERY = 10
"""Of a long history, every tenth event is a state event."""
SENDERS = 8
NEWCOMERS = 100
RENEWED = 1_000
"""Rooms up to this size are made anew for each round."""


@define
class Subject:
    """A room of one size, in a house of its own."""

    house: BusyHouse
    make_room: Callable[[BusyHouse], str]
    size: int
    members: Sequence[str]
    newcomers: Sequence[str]
    """They join and leave again, time after time."""
    meters: dict[str, Meter] = field(factory=dict)
    room_id: str = ""
    club: str = ""
    """Another room, of the newcomers."""

    def renew(self) -> None:
        """Take another room of the size: the measuring itself makes small ones big."""
        if self.room_id and self.size > RENEWED:
            return
        if self.room_id:
            self.house.leave(self.reader(), self.room_id)  # who reads is in one room only
        self.room_id = self.make_room(self.house)

    def meter(self, name: str) -> Meter:
        return self.meters.setdefault(name, self.house.meter())

    def reader(self) -> str:
        return self.members[-1]


def settle(subject: Subject) -> None:
    """Everything that an active room has in memory: who speaks here spoke before, who reads has a feed."""
    house = subject.house
    house.flow(partial(house.message, name, subject.room_id) for name in subject.members[:SENDERS])
    house.token(subject.reader())
    house.token(subject.members[0])


# -- the operations: each does a round of itself -----------------------------------------------------------------


def send_together(subject: Subject) -> None:
    house, senders = subject.house, subject.members[:SENDERS]
    messages = [partial(house.message, senders[n % SENDERS], subject.room_id) for n in range(400)]
    with subject.meter("send, 8 at once").running(len(messages)):
        house.flow(messages)


def send_alone(subject: Subject) -> None:
    house = subject.house
    with subject.meter("send, one after the other").running(100):
        for _ in range(100):
            house.wait(house.message(subject.members[0], subject.room_id))


def sync_empty(subject: Subject) -> None:
    house, who = subject.house, subject.house.who(subject.reader())
    since = house.token(subject.reader())
    with subject.meter("/sync, nothing new").running(300):
        for _ in range(300):
            house.wait(house.poll(who, since))


def sync_after(
    subject: Subject, name: str, change: Callable[[], Awaitable[object]], filter: Filter, times: int = 50
) -> None:
    house, who = subject.house, subject.house.who(subject.reader())
    since = house.token(subject.reader())
    for _ in range(times):
        house.wait(change())
        with subject.meter(name).running():
            answer = house.wait(house.poll(who, since, filter))
        since = next_batch(answer)


def sync_message(subject: Subject) -> None:
    send = partial(subject.house.message, subject.members[0], subject.room_id)
    sync_after(subject, "/sync with one message", send, OPEN)


def sync_message_lazily(subject: Subject) -> None:
    send = partial(subject.house.message, subject.members[0], subject.room_id)
    sync_after(subject, "/sync with one message, lazy members", send, LAZY)


def sync_join_lazily(subject: Subject) -> None:
    house, coming = subject.house, iter(subject.newcomers)

    def join() -> Awaitable[None]:
        return house.memberships.join(subject.room_id, user(next(coming)))

    sync_after(subject, "/sync with one join, lazy members", join, LAZY, 20)
    leave_all(subject, subject.newcomers[:20])


def sync_own_lazily(subject: Subject) -> None:
    """Somebody with an active client comes in, and goes again."""
    house, room_id = subject.house, subject.room_id
    for _ in range(10):
        visitor = f"visitor{house.next()}"
        since = house.token(visitor)
        for step, change in (("entering", house.memberships.join), ("leaving", house.memberships.leave)):
            house.wait(change(room_id, user(visitor)))
            with subject.meter(f"/sync after {step}, lazy members").running():
                answer = house.wait(house.poll(house.who(visitor), since, LAZY))
            since = next_batch(answer)


def join_and_leave(subject: Subject) -> None:
    house = subject.house
    with subject.meter("join, 8 at once").running(NEWCOMERS):
        house.join_all(subject.newcomers, subject.room_id, AT_ONCE)
    with subject.meter("leave, 8 at once").running(NEWCOMERS):
        leave_all(subject, subject.newcomers)


def join_restricted(subject: Subject) -> None:
    """Those who are in one room may join the other, as in a guild's channels: a member has to vouch for them."""
    house, room_id, owner = subject.house, subject.room_id, subject.members[0]
    if not subject.club:
        subject.club = house.create(owner, preset="public_chat")
        house.join_all(subject.newcomers, subject.club)
    allow = [{"type": "m.room_membership", "room_id": subject.club}]
    house.set_state(owner, room_id, "m.room.join_rules", {"join_rule": "restricted", "allow": allow})
    with subject.meter("join a restricted room, 8 at once").running(NEWCOMERS):
        house.join_all(subject.newcomers, room_id, AT_ONCE)
    leave_all(subject, subject.newcomers)
    house.set_state(owner, room_id, "m.room.join_rules", {"join_rule": "public"})


def leave_all(subject: Subject, names: Sequence[str]) -> None:
    house = subject.house
    house.flow(partial(house.memberships.leave, subject.room_id, user(name)) for name in names)


def change_state(subject: Subject) -> None:
    house = subject.house
    topics = [partial(house.topic, subject.members[0], subject.room_id) for _ in range(100)]
    with subject.meter("state event, 8 at once").running(len(topics)):
        house.flow(topics)


def read_page(subject: Subject) -> None:
    house = subject.house
    ask = PageAsk(backwards=True, start=None, stop=None, limit=50, filter=NO_EVENT_FILTER)
    history = house.house.part(History)
    with subject.meter("/messages, 50 events").running(30):
        for _ in range(30):
            house.wait(history.page(subject.room_id, user(subject.reader()), ask))


def first_sync_lazily(subject: Subject) -> None:
    house, who = subject.house, subject.house.who(subject.reader())
    with subject.meter("first /sync, lazy members").running(10):
        for _ in range(10):
            house.wait(house.poll(who, None, LAZY))


def load_cold(subject: Subject) -> None:
    house = subject.house
    rooms = house.house.rooms
    rooms.drop(house.room(subject.room_id))
    with subject.meter("room read into memory").running():
        house.wait(rooms.get(subject.room_id))
    settle(subject)


ROUND = (
    send_together,
    send_alone,
    sync_empty,
    sync_message,
    sync_message_lazily,
    sync_join_lazily,
    sync_own_lazily,
    join_and_leave,
    join_restricted,
    change_state,
    read_page,
    first_sync_lazily,
    load_cold,
)


def measure(title: str, sizes: Sequence[int], subjects: Sequence[Subject]) -> Table:
    for subject in subjects:
        subject.renew()
        settle(subject)
        for operation in ROUND:
            operation(subject)
        subject.meters.clear()
    with calm_collector():
        for _ in range(ROUNDS):
            for subject in subjects:
                subject.renew()
                settle(subject)
            for operation in ROUND:
                for subject in subjects:
                    operation(subject)
            for subject in subjects:
                for meter in subject.meters.values():
                    meter.end_round()
    table = Table(title, ["CPU µs per operation", *(f"{size:,}" for size in sizes), "growth, times"])
    for name in subjects[0].meters:
        costs = [subject.meters[name].cost.all_us for subject in subjects]
        table.add(name, *costs, f"{costs[-1] / costs[0]:.2f}")
    return table


# -- the rooms -----------------------------------------------------------------------------------------------------


def room_of_members(house: BusyHouse, size: int) -> Subject:
    members = [f"m{n}" for n in range(size)]
    return Subject(house, partial(make_room, members), size, members, newcomers())


def room_of_events(house: BusyHouse, size: int) -> Subject:
    members = [f"m{n}" for n in range(10)]

    def make(house: BusyHouse) -> str:
        room_id = make_room(members, house)
        say = [partial(house.message, name, room_id) for name in members]
        change = partial(house.topic, members[0], room_id)
        house.flow((say[n % 10] if n % STATE_EVERY else change for n in range(size)), 200)
        return room_id

    return Subject(house, make, size, members, newcomers())


def newcomers() -> Sequence[str]:
    return [f"new{n}" for n in range(NEWCOMERS)]


def make_room(members: Sequence[str], house: BusyHouse) -> str:
    room_id = house.create(members[0], preset="public_chat")  # without a name, so that /sync has to find one
    house.join_all(members[1:], room_id)
    return room_id


def grow(
    title: str, sizes: Sequence[int], make: Callable[[BusyHouse, int], Subject], houses: Callable[[int], BusyHouse]
) -> None:
    with ExitStack() as stack:
        subjects = []
        for size in sizes:
            house = houses(size)
            stack.callback(lambda house=house: house.wait(house.house.close()))  # type: ignore[misc]
            subjects.append(make(house, size))
        measure(title, sizes, subjects).print()


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("what", "sizes", "make"),
    [("members", MEMBERS, room_of_members), ("events of history", EVENTS, room_of_events)],
    ids=["members", "history"],
)
def test_growth_sqlite(
    tmp_path: Path, what: str, sizes: Sequence[int], make: Callable[[BusyHouse, int], Subject]
) -> None:
    def house(size: int) -> BusyHouse:
        return open_busy_house(tmp_path / str(size), f"sqlite:///{tmp_path / f'{size}.db'}")

    grow(f"Growth with {what}, SQLite", sizes, make, house)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("what", "sizes", "make"),
    [("members", MEMBERS, room_of_members), ("events of history", EVENTS, room_of_events)],
    ids=["members", "history"],
)
def test_growth_postgresql(
    tmp_path: Path,
    postgres: PostgresServer,
    what: str,
    sizes: Sequence[int],
    make: Callable[[BusyHouse, int], Subject],
) -> None:
    urls: list[str] = []

    def house(size: int) -> BusyHouse:
        urls.append(postgres.new_database())
        return open_busy_house(tmp_path / str(size), urls[-1], (postgres.pid,))

    grow(f"Growth with {what}, PostgreSQL (its processes included)", sizes, make, house)
    for url in urls:
        postgres.drop_database(url)

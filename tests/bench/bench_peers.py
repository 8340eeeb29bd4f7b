"""What a peer's events cost in rooms of different sizes: in line, beside ours, and where both changed the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults

from federation.room.event import Event
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.judge import Judge
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.receive.states import RoomStates
from storage.database import open_database
from tests.bench.bench_growth import MEMBERS
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table
from tests.fixtures_db import SERVER_NAME, Pump
from tests.fixtures_rooms import Town, build_town, user
from tests.rooms.test_receive import MALLORY, REMOTE, Meeting, Remote

TIMES = 20
AT_ONCE = 200


@define
class Subject:
    """A room of one size with a peer in it."""

    meeting: Meeting
    meters: dict[str, Meter] = field(factory=dict)
    newcomers: Iterator[str] = field(factory=lambda: (f"new{n}" for n in range(10**6)))

    @property
    def town(self) -> Town:
        return self.meeting.town

    def fork(self, name: str, local: Callable[[str], object], remote: Callable[[list[str]], Event]) -> None:
        """Something happens here, and the peer says something that comes after what was before."""
        room_id = self.meeting.room_id
        for _ in range(TIMES):
            before = list(self.town.room(room_id).visible.head.extremities)
            local(room_id)
            event = remote(before)
            with self.meters.setdefault(name, Meter()).running():
                assert self.meeting.receive(event) == ["accepted"]
            self.town.say("m0", room_id, "joining what was forked")


def in_line(subject: Subject) -> None:
    subject.fork("a peer's message", lambda room_id: None, lambda before: subject.meeting.remote.say("hello"))


def join_in_line(subject: Subject) -> None:
    def join(before: list[str]) -> Event:
        user_id = f"@{next(subject.newcomers)}:{REMOTE}"
        return subject.meeting.remote.make(
            "m.room.member", {"membership": "join"}, sender=user_id, state_key=user_id, prev=before
        )

    subject.fork("a peer's join", lambda room_id: None, join)


def beside_message(subject: Subject) -> None:
    say, remote = subject.town.say, subject.meeting.remote
    subject.fork(
        "a peer's message beside ours",
        lambda room_id: say("m0", room_id, "hello"),
        lambda before: remote.say("hello", prev=before),
    )


def beside_join(subject: Subject) -> None:
    town, remote = subject.town, subject.meeting.remote
    subject.fork(
        "a peer's message beside a join",
        lambda room_id: town.join(next(subject.newcomers), room_id),
        lambda before: remote.say("hello", prev=before),
    )


def beside_topic(subject: Subject) -> None:
    town, remote = subject.town, subject.meeting.remote
    subject.fork(
        "a peer's topic beside ours",
        lambda room_id: town.send("m0", room_id, "m.room.topic", {"topic": "ours"}, ""),
        lambda before: remote.make("m.room.topic", {"topic": "theirs"}, state_key="", prev=before),
    )


ROUND = (in_line, join_in_line, beside_message, beside_join, beside_topic)


@pytest.mark.timeout(0)
def test_peers(tmp_path: Path) -> None:
    with ExitStack() as stack:
        subjects = [Subject(meet(stack, tmp_path, size)) for size in MEMBERS]
        for subject in subjects:
            for operation in ROUND:
                operation(subject)
            subject.meters.clear()
        with calm_collector():
            for _ in range(ROUNDS):
                for operation in ROUND:
                    for subject in subjects:
                        operation(subject)
                for subject in subjects:
                    for meter in subject.meters.values():
                        meter.end_round()
        columns = ["CPU µs per event", *(f"{size:,}" for size in MEMBERS), "growth, times"]
        table = Table("Receiving from peers, by members, SQLite", columns)
        for name in subjects[0].meters:
            costs = [subject.meters[name].cost.process_us for subject in subjects]
            table.add(name, *costs, f"{costs[-1] / costs[0]:.2f}")
        table.print()


def meet(stack: ExitStack, directory: Path, size: int) -> Meeting:
    pump = Pump()
    database = open_database(f"sqlite:///{directory / f'{size}.db'}", pump, server_name=SERVER_NAME)
    stack.callback(lambda: pump.wait(database.close()))
    town = build_town(database, pump)
    room_id = town.create("m0", preset="public_chat", power_level_content_override={"events": {"m.room.topic": 0}})
    join_all(town, [f"m{n}" for n in range(1, size)], room_id)
    remote = Remote(town, room_id)
    receiver = Receiver(
        door=town.door,
        rooms=town.rooms,
        states=RoomStates(database, town.door.means),
        known=KnownEvents(database, town.events),
        judge=Judge(town.events),
        gatherer=Gatherer(remote, remote),
    )
    meeting = Meeting(town, remote, receiver, room_id)
    meeting.join(MALLORY)
    return meeting


def join_all(town: Town, names: Sequence[str], room_id: str) -> None:
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        joins = [Deferred.fromCoroutine(town.memberships.join(room_id, user(name))) for name in some]
        town.wait(gatherResults(joins))

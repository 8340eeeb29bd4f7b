"""What clients do, below HTTP and through it: the whole server but for sockets, in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from homeserver.client.messages import Messages, get_messages
from homeserver.clock import Clock
from homeserver.http.answer import encode_json
from homeserver.relations.bundles import Bundles
from homeserver.rooms.history import History
from tests.bench.busy import AT_ONCE, TEXT, BusyHouse, next_batch, open_busy_house
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table
from tests.bench.telephone import Office, ask
from tests.fixtures_db import PostgresServer
from tests.fixtures_rooms import user

ROOMS = 20
PEOPLE = [f"m{n}" for n in range(20)]
MESSAGES = 60
"""In each room, before anything is measured."""


@contextmanager
def lived_in(tmp_path: Path, url: str, postgres: PostgresServer) -> Iterator[tuple[BusyHouse, list[str]]]:
    """A house with twenty rooms of the same twenty people."""
    house = open_busy_house(tmp_path, url, (postgres.pid,) if url.startswith("postgresql") else ())
    rooms = [house.create(PEOPLE[0], preset="public_chat", name=f"Room {n}") for n in range(ROOMS)]
    for room_id in rooms:
        house.join_all(PEOPLE[1:], room_id)
        house.flow(partial(house.message, PEOPLE[n % 20], room_id) for n in range(MESSAGES))
    yield house, rooms
    house.wait(house.house.close())


class Figures:
    """Meters by name, in the order in which they were first used."""

    def __init__(self, house: BusyHouse) -> None:
        self._house = house
        self._meters: dict[str, Meter] = {}

    def __getitem__(self, name: str) -> Meter:
        return self._meters.setdefault(name, self._house.meter())

    def each(self, name: str, times: int, operation: Callable[[], Awaitable[object]]) -> None:
        """One after the other."""
        with self[name].running(times):
            for _ in range(times):
                self._house.wait(operation())

    def end_round(self) -> None:
        for meter in self._meters.values():
            meter.end_round()

    def table(self, title: str) -> Table:
        table = Table(title, ["CPU µs per operation", "process", "main thread", "database"])
        for name, meter in self._meters.items():
            table.add(name, meter.cost.process_us, meter.cost.main_us, meter.cost.database_us)
        return table


@pytest.mark.timeout(0)
def test_below_http(tmp_path: Path, database_url: str, postgres: PostgresServer) -> None:
    with lived_in(tmp_path, database_url, postgres) as (house, rooms):
        figures = Figures(house)
        newcomers = [f"new{n}" for n in range(100)]
        reader = house.who(PEOPLE[-1])
        page = Messages(room_id=rooms[0], dir="b", limit=50)
        parts = house.house.part(History), house.house.part(Bundles), house.house.part(Clock)

        async def read_page() -> bytes:
            return encode_json(await get_messages(*parts, reader, page))

        with calm_collector():
            for _ in range(ROUNDS):
                sends = [partial(house.message, PEOPLE[n % AT_ONCE], rooms[n % 4]) for n in range(400)]
                with figures["send a message: 8 senders, 4 rooms"].running(len(sends)):
                    house.flow(sends)
                figures.each("send a message: one after the other", 100, lambda: house.message(PEOPLE[0], rooms[0]))
                figures.each("state event", 100, lambda: house.topic(PEOPLE[0], rooms[0]))
                with figures["join, 8 at once"].running(len(newcomers)):
                    house.join_all(newcomers, rooms[1], AT_ONCE)
                with figures["leave, 8 at once"].running(len(newcomers)):
                    house.flow(partial(house.memberships.leave, rooms[1], user(name)) for name in newcomers)
                figures.each("/messages, a page of 50", 50, read_page)
                figures.each("first /sync, 20 rooms of 20 members", 10, lambda: house.poll(reader))
                since = house.token(PEOPLE[-1])
                figures.each("/sync with nothing new", 200, partial(house.poll, reader, since))
                for _ in range(50):
                    house.wait(house.message(PEOPLE[0], rooms[0]))
                    with figures["/sync with one message"].running():
                        answer = house.wait(house.poll(reader, since))
                    since = next_batch(answer)
                figures.end_round()
        figures.table(f"A server below HTTP, {house.house.database.dialect}").print()


@pytest.mark.timeout(0)
def test_http(tmp_path: Path, sqlite_url: str, postgres: PostgresServer) -> None:
    with lived_in(tmp_path, sqlite_url, postgres) as (house, rooms):
        figures = Figures(house)
        office = Office.of(house)
        tokens = {name: office.log_in(name) for name in PEOPLE}
        lines = {name: office.connect() for name in PEOPLE}
        line, token = lines[PEOPLE[-1]], tokens[PEOPLE[-1]]
        content = {"msgtype": "m.text", "body": TEXT}

        versions, nothing = ask("GET", "/_matrix/client/versions"), ask("GET", "/_matrix/client/v3/nothing")
        whoami = ask("GET", "/_matrix/client/v3/account/whoami", token=token)
        path = f"/_matrix/client/v3/rooms/{rooms[0]}/messages?dir=b&limit=50"
        page = ask("GET", path, token=token)

        def send(name: str, room_id: str) -> Awaitable[bytes]:
            path = f"/_matrix/client/v3/rooms/{room_id}/send/m.room.message/h{house.next()}"
            return lines[name].send(ask("PUT", path, content, token=tokens[name]))

        with calm_collector():
            for _ in range(ROUNDS):
                figures.each("a request without a token: versions", 500, partial(line.send, versions))
                figures.each("a request with a token: whoami", 500, partial(line.send, whoami))
                figures.each("an unknown path", 500, partial(line.send, nothing))
                sends = [partial(send, PEOPLE[n % AT_ONCE], rooms[n % 4]) for n in range(400)]
                with figures["send a message: 8 senders, 4 rooms"].running(len(sends)):
                    house.flow(sends)
                since = house.token(PEOPLE[-1])
                figures.each("/sync with nothing new", 200, partial(line.poll, token, since))
                for _ in range(50):
                    house.wait(send(PEOPLE[0], rooms[0]))
                    with figures["/sync with one message"].running():
                        answer = house.wait(line.poll(token, since))
                    since = next_batch(answer)
                figures.each("/messages, a page of 50", 50, partial(line.send, page))
                figures.end_round()
        figures.table("The same through HTTP, sqlite").print()

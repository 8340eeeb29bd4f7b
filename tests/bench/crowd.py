"""A room with very many messages, made fast, by each server's database while the server is stopped.

By sending, a Synapse takes an hour for 100,000. So it hears a few of a peer's, and its SQLite tables get a row for each
further one, copied from the last of these: the events themselves are whole, linked to each other and signed, and its
search index gets their texts as its own code would write them. On ours the reader says it all, in this process.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from federation.room.event import Event
from homeserver.app import build
from homeserver.cli.common import load
from homeserver.clock import Clock
from homeserver.harness.ours import ServerProcess
from homeserver.harness.person import Person
from homeserver.harness.server import Server
from homeserver.http.route import Requester
from homeserver.rooms.send import Sender
from tests.bench.busy import BusyHouse, QuickReactor
from tests.bench.rivals import AT_ONCE, settle
from tests.bench.stranger import Stranger, enter

FEW = AT_ONCE


def topic(number: int) -> str:
    """A word of letters, none of which begins an ending: a Synapse cuts those off, and shortens words with digits."""
    return "subject" + "".join("bcdfghjkmn"[int(digit)] for digit in f"{number:04}")


def text_of(number: int, topics: int) -> str:
    return f"message {number} about {topic(number % topics)} and whatever else people write of"


def fill(stranger: Stranger, server: Server, reader: Person, messages: int, topics: int) -> str:
    """A room of that person's with so many messages, each of one of so many topics; its id."""
    room_id = reader.create_room(preset="public_chat", room_version="11")
    texts = (text_of(number, topics) for number in range(messages))
    if isinstance(server, ServerProcess):
        server.stop()
        _say(server, reader, room_id, texts)
    else:
        speaker = stranger.person("speaker")
        branch = enter(stranger, server, room_id, speaker)
        events = (branch.say(stranger, speaker, text) for text in texts)
        few = [next(events) for _ in range(FEW)]
        stranger.send(server, few)
        settle(server)
        server.stop()
        _write(server, few[-1], events)
    server.start()
    settle(server)
    return room_id


def _say(server: ServerProcess, reader: Person, room_id: str, texts: Iterable[str]) -> None:
    reactor = QuickReactor()
    clock = Clock(reactor.timers, lambda: time.time_ns() // 1_000_000)
    house = BusyHouse(build(load(server.settings_path), reactor, clock), reactor)
    who = Requester(reader.user_id, reader.device_id, b"")

    def saying(number: int, text: str) -> Callable[[], Awaitable[object]]:
        content = {"msgtype": "m.text", "body": text}
        sender = house.house.part(Sender)
        return lambda: sender.message(who, room_id, "m.room.message", content, f"crowd{number}")

    house.flow((saying(number, text) for number, text in enumerate(texts)), AT_ONCE)
    house.wait(house.house.close())


def _write(server: Server, last: Event, events: Iterator[Event]) -> None:
    with closing(sqlite3.connect(server.directory / "homeserver.db")) as connection:
        like = _row(connection, "events", last.event_id)
        said = _row(connection, "event_json", last.event_id)
        state = _row(connection, "event_to_state_groups", last.event_id)
        found = _row(connection, "event_search", last.event_id)
        newest = last
        for number, event in enumerate(events, 1):
            new = {
                "event_id": event.event_id,
                "stream_ordering": like["stream_ordering"] + number,
                "topological_ordering": event.depth,
                "depth": event.depth,
                "origin_server_ts": event.origin_server_ts,
                "json": json.dumps(json.loads(event.raw)),
                "value": event.content["body"],
            }
            for table, row in (
                ("events", like),
                ("event_json", said),
                ("event_to_state_groups", state),
                ("event_search", found),
            ):
                _insert(connection, table, {name: new.get(name, value) for name, value in row.items()})
            newest = event
        connection.execute(
            "UPDATE event_forward_extremities SET event_id = ? WHERE room_id = ?", (newest.event_id, newest.room_id)
        )
        connection.commit()


def _row(connection: sqlite3.Connection, table: str, event_id: str) -> dict[str, Any]:
    cursor = connection.execute(f"SELECT * FROM {table} WHERE event_id = ?", (event_id,))
    names: Sequence[str] = [column[0] for column in cursor.description]
    return dict(zip(names, cursor.fetchone(), strict=True))


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))

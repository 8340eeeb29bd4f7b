"""A room with very many messages, made fast: a peer's, sent as peers do, or for a Synapse written into its database.

A Synapse takes some 50 ms of CPU for an event of a peer, which is more than an hour for 100,000. So it is sent a few,
is stopped, and its SQLite tables get a row for each further event, copied from the last of these: the events themselves
are whole, linked to each other and signed, and its search index gets their texts as its own code would write them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from federation.room.event import Event
from homeserver.harness.person import Person
from homeserver.harness.server import Server
from tests.bench.rivals import AT_ONCE, in_batches, settle
from tests.bench.stranger import Stranger, enter

FEW = AT_ONCE


def text_of(number: int, topics: int) -> str:
    return f"message {number} about subject{number % topics:04} and whatever else people write of"


def fill(stranger: Stranger, server: Server, reader: Person, messages: int, topics: int) -> str:
    """A room of that person's with so many messages, each of one of so many topics; its id."""
    room_id = reader.create_room(preset="public_chat", room_version="11")
    speaker = stranger.person("speaker")
    branch = enter(stranger, server, room_id, speaker)
    events = (branch.say(stranger, speaker, text_of(number, topics)) for number in range(messages))
    few = [next(events) for _ in range(FEW)]
    stranger.send(server, few)
    settle(server)
    if server.make == "synapse":
        server.stop()
        _write(server, few[-1], events)
        server.start()
    else:
        rest = list(events)
        for some in in_batches(rest):
            stranger.send(server, some)
    settle(server)
    return room_id


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

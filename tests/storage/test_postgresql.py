"""What only PostgreSQL can do to us: sessions that end in the middle, a server that is gone for a while."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import events, rooms
from storage.database import Database, open_database
from storage.errors import CommitUnknown, ConnectionLost
from storage.ports import Cursor
from storage.postgresql import PostgresConnection
from tests.fixtures_db import SERVER_NAME, PostgresServer, Pump
from tests.storage.histories import Room, append_all


@pytest.fixture
def database(postgres_url: str, pump: Pump) -> Iterator[Database]:
    opened = open_database(postgres_url, pump, server_name=SERVER_NAME)
    yield opened
    pump.wait(opened.close())


@pytest.fixture
def room(database: Database, pump: Pump) -> Room:
    room = Room(database.counters)
    append_all(pump, database, *room.create())
    return room


def end_sessions(postgres: PostgresServer) -> None:
    """End everybody's sessions, as an administrator or a restart does, and wait until they are gone."""
    postgres.administer(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'guildhall'"
    )


def test_reads_and_writes_go_on_with_new_sessions(
    database: Database, pump: Pump, room: Room, postgres: PostgresServer
) -> None:
    assert pump.wait(database.run(rooms.find_nid, room.room_id)) == room.nid
    end_sessions(postgres)
    append_all(pump, database, room.send("after"))
    assert pump.wait(database.run(rooms.find_nid, room.room_id)) == room.nid
    assert len(pump.wait(database.run(events.timeline, room.nid, limit=100))) == 5


def test_a_batch_whose_session_ends_in_the_middle_is_done_again(
    database: Database, pump: Pump, room: Room, postgres: PostgresServer
) -> None:
    runs: list[int] = []

    def interrupted(cursor: Cursor) -> int:
        cursor.execute("SELECT 1")
        runs.append(1)
        if len(runs) == 1:
            end_sessions(postgres)
        cursor.execute("INSERT INTO meta (key, value) VALUES ('a', 'x')")
        return len(runs)

    assert pump.wait(database.write(interrupted)) == 2
    append_all(pump, database, room.send())


Break = Callable[[Callable[..., Any]], None]


@pytest.fixture
def break_next_commit(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Replaces the next commit's sending by something of the test's."""

    def arrange(instead: Callable[..., Any]) -> None:
        send = PostgresConnection.send

        def sending(connection: PostgresConnection, text: bytes) -> None:
            if text.endswith(b"COMMIT"):
                monkeypatch.setattr(PostgresConnection, "send", send)
                instead(connection, text, send)
            else:
                send(connection, text)

        monkeypatch.setattr(PostgresConnection, "send", sending)

    return arrange


def test_a_commit_whose_answer_was_lost_is_found_again(
    database: Database, pump: Pump, room: Room, break_next_commit: Break, postgres: PostgresServer
) -> None:
    """Its notices are told, in order: otherwise nobody would hear of events that are there."""
    heard: list[object] = []
    database.on_commit(heard.extend)

    def written_but_lost(connection: PostgresConnection, text: bytes, send: Callable[..., None]) -> None:
        send(connection, text)
        end_sessions(postgres)
        send(connection, b"SELECT 1")

    break_next_commit(written_but_lost)
    append_all(pump, database, room.send(notice="first"))
    append_all(pump, database, room.set("m.room.topic", "", {}), room.send(notice="last"))
    assert heard[0] == "first"
    assert heard[-1] == "last"
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert (loaded.head, loaded.state) == (room.head, room.state)


def test_a_commit_that_never_arrived_is_done_again(
    database: Database, pump: Pump, room: Room, break_next_commit: Break, postgres: PostgresServer
) -> None:
    def never_sent(connection: PostgresConnection, text: bytes, send: Callable[..., None]) -> None:
        end_sessions(postgres)
        send(connection, text)

    break_next_commit(never_sent)
    append_all(pump, database, room.send())
    assert len(pump.wait(database.run(events.timeline, room.nid, limit=100))) == 5


def test_a_commit_that_nothing_can_be_known_of(
    database: Database, pump: Pump, room: Room, break_next_commit: Break, postgres: PostgresServer
) -> None:
    def lost(connection: PostgresConnection, text: bytes, send: Callable[..., None]) -> None:
        end_sessions(postgres)
        send(connection, text)

    def meta(cursor: Cursor) -> None:
        cursor.later("INSERT INTO meta (key, value) VALUES ('a', 'x')")

    break_next_commit(lost)
    with pytest.raises(CommitUnknown):
        pump.wait(database.write(meta))
    append_all(pump, database, room.send())


def test_a_statement_that_comes_often_is_prepared(database: Database, pump: Pump) -> None:
    def ask(cursor: Cursor, number: int) -> tuple[Any, Any]:
        # One whose parameters have types by themselves, and one whose do not: it is sent whole for ever.
        typed = cursor.execute("SELECT nid FROM rooms WHERE nid = ? OR 100 % 3 = 1", (number,)).fetchall()
        untyped = cursor.execute("SELECT ? IS NULL", (number,)).fetchone()
        return typed, untyped

    for number in range(8):
        assert pump.wait(database.run(ask, number)) == ([], (False,))
    names = pump.wait(
        database.run(lambda cursor: cursor.execute("SELECT statement FROM pg_prepared_statements").fetchall())
    )
    assert len([statement for (statement,) in names if "100 % 3" in statement]) == 1


def test_text_columns_refuse_nul_before_anything_is_sent(database: Database, pump: Pump, room: Room) -> None:
    with pytest.raises(ValueError, match="NUL"):
        pump.wait(database.run(lambda cursor: cursor.execute("SELECT 1 FROM rooms WHERE room_id = ?", ("!\0:x",))))
    assert pump.wait(database.run(rooms.find_nid, room.room_id)) == room.nid


class TestWithAServerOfItsOwn:
    """Tests that stop or crash PostgreSQL itself."""

    @pytest.fixture
    def server(self) -> Iterator[PostgresServer]:
        directory = Path(tempfile.mkdtemp(prefix="guildhall-pg-"))
        server = PostgresServer(directory, durable=True)
        try:
            server.start()
            yield server
        finally:
            server.stop()
            shutil.rmtree(directory)

    def test_a_crash_loses_nothing_that_was_answered(self, server: PostgresServer, pump: Pump) -> None:
        database = open_database(server.new_database(), pump, server_name=SERVER_NAME)
        room = Room(database.counters)
        append_all(pump, database, *room.create())
        over = threading.Event()

        def crash() -> None:
            time.sleep(0.5)
            server.stop(signal.SIGQUIT)
            time.sleep(1)
            server.start()
            over.wait(60)  # a server does not survive the thread that started it

        crashing = threading.Thread(target=crash)
        crashing.start()
        sent = 0
        try:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                append_all(pump, database, *(room.send(str(sent + number)) for number in range(5)))
                sent += 5
            found = pump.wait(database.run(events.timeline, room.nid, limit=100_000))
            pump.wait(database.close())
        finally:
            over.set()
            crashing.join()
        assert [stored.event.content["body"] for stored in found[4:]] == [str(number) for number in range(sent)]

    def test_a_server_that_stays_away(
        self, server: PostgresServer, pump: Pump, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.writer.RECONNECT_DELAYS_S", (0.1, 0.1))
        database = open_database(server.new_database(), pump, server_name=SERVER_NAME)
        room = Room(database.counters)
        append_all(pump, database, *room.create())
        server.stop()
        waiting = [database.append(room.send()) for _ in range(3)]
        for answer in waiting:
            with pytest.raises(Exception, match=r"connection|earlier append"):
                pump.wait(answer)
        with pytest.raises(ConnectionLost):
            pump.wait(database.run(rooms.find_nid, room.room_id))
        server.start()
        database.clear_poison(room.nid)
        loaded = pump.wait(database.run(rooms.load_room, room.nid))
        assert loaded is not None
        room.head = loaded.head
        append_all(pump, database, room.send())
        pump.wait(database.close())

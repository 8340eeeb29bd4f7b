"""The group commit: who shares a transaction, who fails with whom, and in which order everybody hears of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from storage import events, rooms
from storage.database import Database, open_database
from storage.errors import DatabaseClosed, DuplicateRow, RoomPoisoned
from storage.ports import Cursor, Transaction
from tests.fixtures_db import SERVER_NAME, Pump
from tests.storage.histories import ALICE, Room, append_all


class Listener:
    """Notes notices and answers in one list, in the order in which they come."""

    def __init__(self, database: Database) -> None:
        self.heard: list[object] = []
        self.batches: list[list[object]] = []
        database.on_commit(self.committed)

    def committed(self, notices: Sequence[object]) -> None:
        self.batches.append(list(notices))
        self.heard += notices

    def note(self, name: str, answer: Deferred[Any]) -> Deferred[Any]:
        """Add the answer's name, or the name and its error's, when it comes; the error goes no further."""

        def came(result: object) -> None:
            if isinstance(result, Failure):
                self.heard.append(f"{name}: {type(result.value).__name__}")
            else:
                self.heard.append(f"answer {name}")

        answer.addBoth(came)
        return answer


@pytest.fixture
def listener(database: Database) -> Listener:
    return Listener(database)


@pytest.fixture
def room(database: Database, pump: Pump) -> Room:
    room = Room(database.counters)
    append_all(pump, database, *room.create())
    return room


@pytest.fixture
def hold(database: Database, pump: Pump) -> Iterator[Callable[[], None]]:
    """Keeps the writer busy from now on, so that what is queued becomes one batch; call it to let the writer go."""
    gate = threading.Event()
    held = database.write(lambda cursor: gate.wait(20))

    def release() -> None:
        gate.set()
        pump.wait(held)

    yield release
    gate.set()


def fail(cursor: Cursor) -> None:
    cursor.execute("SELECT 1")
    raise ZeroDivisionError


def meta(cursor: Cursor, key: str) -> None:
    cursor.later("INSERT INTO meta (key, value) VALUES (?, 'x')", (key,))


def keys(cursor: Cursor) -> set[str]:
    return {key for (key,) in cursor.execute("SELECT key FROM meta WHERE value = 'x'").fetchall()}


def test_a_batch_is_one_transaction_and_one_wake_up(
    database: Database, pump: Pump, room: Room, hold: Callable[[], None], listener: Listener
) -> None:
    for number in range(5):
        listener.note(str(number), database.append(room.send(notice=f"notice {number}")))
    listener.note("write", database.write(meta, "a"))
    listener.note("told", database.write_and_tell("notice told", meta, "b"))
    last = listener.note("last", database.append(room.send(notice="notice last")))
    assert database.queue_length == 8
    hold()
    pump.wait(last)
    notices = [*(f"notice {number}" for number in range(5)), "notice told", "notice last"]
    assert listener.batches == [notices]
    answers = [*(f"answer {number}" for number in range(5)), "answer write", "answer told", "answer last"]
    assert listener.heard == [*notices, *answers]
    assert database.queue_length == 0


def test_the_append_itself_is_the_notice_where_none_is_given(
    database: Database, pump: Pump, room: Room, listener: Listener
) -> None:
    append = room.send()
    pump.wait(database.append(append))
    assert listener.heard == [append]


def test_a_notice_comes_before_its_answer_and_after_the_commit(database: Database, pump: Pump, room: Room) -> None:
    append = room.send()
    nid = append.events[0].stored.nid
    seen: list[object] = []
    database.on_commit(lambda notices: seen.append(database.run(events.load_events, [nid])))
    answer = database.append(append)
    answer.addCallback(lambda _: seen.append("answer"))
    pump.wait(answer)
    reading, name = seen
    assert name == "answer"
    assert nid in pump.wait(reading)  # type: ignore[arg-type]


def test_a_bad_unit_fails_alone(
    database: Database, pump: Pump, room: Room, hold: Callable[[], None], listener: Listener
) -> None:
    other = Room(database.counters)
    bad = room.send(notice="notice bad")
    bad.also = [fail]
    listener.note("create", database.append(other.create()[0]))
    listener.note("bad", database.append(bad))
    listener.note("division", database.write(fail))
    listener.note("poisoned", database.append(room.send(notice="notice poisoned")))
    listener.note("write", database.write(meta, "a"))
    append = other.send(notice="notice other")
    last = listener.note("other", database.append(append))
    hold()
    pump.wait(last)
    # The create event's append has no notice of its own, so it stands for itself.
    assert listener.heard[1:] == [
        "notice other",
        "answer create",
        "bad: ZeroDivisionError",
        "division: ZeroDivisionError",
        "poisoned: RoomPoisoned",
        "answer write",
        "answer other",
    ]
    assert [len(batch) for batch in listener.batches] == [2]
    assert pump.wait(database.run(keys)) == {"a"}
    stored = pump.wait(database.run(events.timeline, room.nid, limit=100))
    assert len(stored) == 4


def test_a_failed_append_poisons_its_room_until_it_is_cleared(
    database: Database, pump: Pump, room: Room, hold: Callable[[], None], listener: Listener
) -> None:
    good = (room.head, dict(room.state))
    bad = room.send()
    bad.also = [fail]
    first = listener.note("bad", database.append(bad))
    first.addCallback(lambda _: database.append(room.send()))  # too early: nobody cleared it
    hold()
    # This one waits while the batch with the bad one is being written.
    waiting = listener.note("waiting", database.append(room.send()))
    with pytest.raises(RoomPoisoned):
        pump.wait(first)
    pump.wait(waiting)
    assert listener.heard == ["bad: ZeroDivisionError", "waiting: RoomPoisoned"]
    with pytest.raises(RoomPoisoned) as caught:
        pump.wait(database.append(room.send()))
    assert caught.value.room_nid == room.nid
    other = Room(database.counters)
    append_all(pump, database, *other.create())

    room.head, room.state = good
    database.clear_poison(room.nid)
    append_all(pump, database, room.send("works again"))
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert loaded.head == room.head


def test_what_a_failed_unit_learnt_is_forgotten(database: Database, pump: Pump, room: Room) -> None:
    """Interned strings, chain places and snapshots of a transaction that failed are made again by the next."""
    good = (room.head, dict(room.state))
    bad = room.set("org.new.type", "new key", {})
    bad.also = [fail]
    with pytest.raises(ZeroDivisionError):
        pump.wait(database.append(bad))
    room.head, room.state = good
    database.clear_poison(room.nid)
    append_all(pump, database, room.set("org.new.type", "new key", {}), room.set("org.new.type", "new key", {"a": 1}))
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert loaded.state == room.state


def test_a_repeated_transaction_id_fails_alone_within_a_batch(
    database: Database, pump: Pump, room: Room, hold: Callable[[], None], listener: Listener
) -> None:
    other = Room(database.counters)
    transaction = Transaction(ALICE, "PHONE", "send", "1")
    listener.note("first", database.append(room.send(transaction=transaction)))
    for append in other.create():
        database.append(append)
    listener.note("second", database.append(other.send(transaction=transaction)))
    last = listener.note("third", database.append(room.send()))
    hold()
    pump.wait(last)
    assert [heard for heard in listener.heard if isinstance(heard, str)] == [
        "answer first",
        f"second: {DuplicateRow.__name__}",
        "answer third",
    ]


def test_a_failing_listener_keeps_nobody_from_the_answer(database: Database, pump: Pump, room: Room) -> None:
    logged: list[LogEvent] = []
    heard: list[object] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            logged.append(event)

    def broken(notices: Sequence[object]) -> None:
        raise ZeroDivisionError

    database.on_commit(broken)
    database.on_commit(heard.extend)
    globalLogPublisher.addObserver(observe)
    try:
        pump.wait(database.append(room.send(notice="notice")))
    finally:
        globalLogPublisher.removeObserver(observe)
    assert heard == ["notice"]
    assert len(logged) == 1


def test_an_abandoned_answer_harms_nobody(
    database: Database, pump: Pump, room: Room, hold: Callable[[], None], listener: Listener
) -> None:
    """A client that hangs up cancels what it waits for; the event is written all the same."""
    abandoned = listener.note("abandoned", database.append(room.send(notice="notice 1")))
    last = listener.note("last", database.append(room.send(notice="notice 2")))
    abandoned.cancel()
    hold()
    pump.wait(last)
    assert listener.heard == ["abandoned: CancelledError", "notice 1", "notice 2", "answer last"]


def test_values_and_errors_of_functions_come_back(database: Database, pump: Pump) -> None:
    def pair(cursor: Cursor, a: int, *, b: int) -> tuple[int, int]:
        return a, b

    assert pump.wait(database.write(pair, 1, b=2)) == (1, 2)
    assert pump.wait(database.run(pair, 1, b=2)) == (1, 2)
    with pytest.raises(ZeroDivisionError):
        pump.wait(database.run(fail))
    with pytest.raises(ZeroDivisionError):
        pump.wait(database.write(fail))


def test_the_largest_batch_is_bounded(
    database: Database, pump: Pump, hold: Callable[[], None], listener: Listener
) -> None:
    answers = [database.write_and_tell(number, meta, str(number)) for number in range(1200)]
    hold()
    pump.wait(answers[-1])
    assert [len(batch) for batch in listener.batches] == [500, 500, 200]
    assert listener.heard == list(range(1200))
    assert len(pump.wait(database.run(keys))) == 1200


def test_closing_writes_what_is_queued(database_url: str, pump: Pump) -> None:
    database = open_database(database_url, pump, server_name=SERVER_NAME)
    room = Room(database.counters)
    answers = [database.append(append) for append in (*room.create(), *(room.send() for _ in range(50)))]
    reading = database.run(keys)
    pump.wait(database.close())
    assert all(answer.called for answer in answers)
    assert reading.called
    for refused in (database.write(meta, "a"), database.run(keys), database.append(room.send())):
        with pytest.raises(DatabaseClosed):
            pump.wait(refused)

    again = open_database(database_url, pump, server_name=SERVER_NAME)
    assert again.counters == database.counters or again.counters.position <= database.counters.position
    loaded = pump.wait(again.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert len(loaded.state) == 4
    pump.wait(again.close())


def test_counters_go_on_where_they_were(database_url: str, pump: Pump) -> None:
    database = open_database(database_url, pump, server_name=SERVER_NAME)
    assert (database.counters.position, database.counters.event, database.counters.backfill) == (1, 1, 0)
    room = Room(database.counters)
    append_all(pump, database, *room.create(), room.send())
    before = database.counters
    pump.wait(database.close())
    database = open_database(database_url, pump, server_name=SERVER_NAME)
    assert database.counters == before
    append_all(pump, database, room.send(), room.set("m.room.topic", "", {}))
    pump.wait(database.close())


def test_no_position_is_given_twice(database_url: str, pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if its row is deleted and the server is killed: some client may have been told of it."""
    monkeypatch.setattr("storage.writer.POSITIONS_AT_A_TIME", 7)
    told = 0
    for _ in range(3):
        database = open_database(database_url, pump, server_name=SERVER_NAME)
        assert told < database.counters.position <= told + 1 + 7
        for _ in range(10):
            told = database.next_position()
            pump.wait(database.write(meta, f"{told}"))
        pump.wait(database.write(lambda cursor: cursor.execute("DELETE FROM meta WHERE value = 'x'").rowcount))
        # As near as a test comes to being killed: nothing is written at the end.
        monkeypatch.setattr("storage.database.write_next_position", lambda cursor, position: None)
        pump.wait(database.close())


def test_a_function_that_goes_on_after_a_failed_statement(database: Database, pump: Pump) -> None:
    """PostgreSQL then commits nothing, and says so in passing; that must not look like success."""

    def careless(cursor: Cursor) -> None:
        meta(cursor, "before")
        try:
            cursor.execute("INSERT INTO no_such_table VALUES (1)")
        except Exception:
            return

    if database.dialect == "sqlite":
        pump.wait(database.write(careless))
        assert pump.wait(database.run(keys)) == {"before"}
    else:
        with pytest.raises(Exception, match="nothing was written"):
            pump.wait(database.write(careless))
        assert pump.wait(database.run(keys)) == set()


def test_readers_cannot_write(database: Database, pump: Pump) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        pump.wait(database.run(lambda cursor: cursor.execute("DELETE FROM meta").rowcount))
    with pytest.raises(TypeError):
        pump.wait(database.run(lambda cursor: cursor.writer))


def test_a_read_sees_one_moment(database: Database, pump: Pump) -> None:
    began, go_on = threading.Event(), threading.Event()

    def look_twice(cursor: Cursor) -> tuple[set[str], set[str]]:
        first = keys(cursor)
        began.set()
        go_on.wait(20)
        return first, keys(cursor)

    reading = database.run(look_twice)
    assert began.wait(20)
    pump.wait(database.write(meta, "new"))
    go_on.set()
    assert pump.wait(reading) == (set(), set())
    assert pump.wait(database.run(keys)) == {"new"}


def test_reads_go_on_beside_each_other(database: Database, pump: Pump) -> None:
    both = threading.Barrier(2, timeout=20)
    first, second = database.run(lambda cursor: both.wait()), database.run(lambda cursor: both.wait())
    assert {pump.wait(first), pump.wait(second)} == {0, 1}
    many = [database.run(lambda cursor, number: number, number) for number in range(200)]
    assert [pump.wait(answer) for answer in many] == list(range(200))

"""The database as the house sees it: reads in a pool, writes through the group commit, one crossing each.

    await db.run(load_events, nids)            a plain function of a cursor, in a reader's thread
    await db.write(set_profile, user_id, ...)  the same in the writer's thread, durable when it answers
    await db.append(EventAppend(...))          events, gathered with others into one transaction

All functions of this package that take a cursor can be given to `run` (those that only read) or `write`, and several
of them can be called by one function: they are then one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from federation.threads import Hire, Workers, threads_of
from storage import strings
from storage.connection import Connection, Engine
from storage.counters import read_counters, write_next_position
from storage.errors import (
    CommitUnknown,
    ConnectionLost,
    DatabaseBusy,
    DatabaseClosed,
    DatabaseTooNew,
    DatabaseUnusable,
    DuplicateRow,
    RoomPoisoned,
    StorageError,
    UnknownAuthEvent,
    WrongServerName,
)
from storage.migrate import load_migrations, migrate
from storage.ports import Counters, Cursor, Dialect, EventAppend
from storage.reader import ReaderPool
from storage.shared import Shared, WriterMemory
from storage.sqlite import SqliteEngine
from storage.writer import Writer

__all__ = [
    "CommitUnknown",
    "ConnectionLost",
    "Database",
    "DatabaseBusy",
    "DatabaseClosed",
    "DatabaseTooNew",
    "DatabaseUnusable",
    "DuplicateRow",
    "RoomPoisoned",
    "StorageError",
    "UnknownAuthEvent",
    "WrongServerName",
    "open_database",
]

_log = Logger()

P = ParamSpec("P")
T = TypeVar("T")

SQLITE = "sqlite:///"


class Database:
    """An open database. All methods are for the reactor's thread."""

    def __init__(
        self,
        engine: Engine,
        writer_connection: Connection,
        writer_memory: WriterMemory,
        counters: Counters,
        readers: Workers,
        writer: Workers,
    ) -> None:
        """`writer` is one thread, or something else that does one thing after the other."""
        self.counters = counters
        """The process's one set of counters: whoever makes events, or rows with a position, takes from it."""
        self._engine = engine
        self._listeners: list[Callable[[Sequence[object]], None]] = []
        self._readers = ReaderPool(engine, readers)
        self._writer = Writer(engine, writer_connection, writer_memory, counters, writer, self._announce)

    @property
    def dialect(self) -> Dialect:
        return self._engine.dialect

    @property
    def queue_length(self) -> int:
        """How many writes wait for the batch before them."""
        return self._writer.queue_length

    def next_position(self) -> int:
        """Take the next place in the stream, for a row that is queued in the same breath."""
        position = self.counters.position
        self.counters.position += 1
        return position

    def run(self, function: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Read: call `function(cursor, *args)` in a reader's thread. All its reads see the same moment."""
        return self._readers.run(function, args, kwargs)

    def write(self, function: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Write: call `function(cursor, *args)` in the writer's thread; answers when it is durable.

        Writes and appends are done in the order in which they were asked for. A function may be called twice (when
        another one in its batch failed), so it must have no effect but on the database.
        """
        return self.write_and_tell(None, function, *args, **kwargs)

    def write_and_tell(
        self,
        notice: object,
        function: Callable[Concatenate[Cursor, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Deferred[T]:
        """`write` with a notice for the commit listeners."""
        return self._writer.write(lambda cursor: function(cursor, *args, **kwargs), notice)

    def append(self, append: EventAppend) -> Deferred[None]:
        """Queue events for the group commit; answers when they are durable.

        Raises RoomPoisoned where an earlier append to the room failed, until `clear_poison`; DuplicateRow where the
        transaction id or an event is there already; UnknownAuthEvent; CommitUnknown.
        """
        return self._writer.append(append)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is queued inside is handed to the writer as one: a few hundred units make one commit, in one fsync.

        Nothing may be awaited inside. A unit that fails still fails alone.
        """
        self._writer.hold()
        try:
            yield
        finally:
            self._writer.release()

    def clear_poison(self, room_nid: int) -> None:
        """The caller has dropped what it had of the room and reads it anew: appends to it are taken again."""
        self._writer.clear_poison(room_nid)

    def on_commit(self, listener: Callable[[Sequence[object]], None]) -> None:
        """Call `listener` once per committed batch with its notices in order, before anybody gets an answer.

        It is called in the reactor's thread and must not raise.
        """
        self._listeners.append(listener)

    async def close(self) -> None:
        """Write what is queued, answer what was asked, then let go of the database."""
        with suppress(DatabaseClosed, ConnectionLost, CommitUnknown):  # closed already, or it stays a rougher bound
            await self.write(write_next_position, self.counters.position)
        await self._writer.close()
        await self._readers.close()
        self._engine.close()

    def _announce(self, notices: Sequence[object]) -> None:
        for listener in self._listeners:
            try:
                listener(notices)
            except Exception:
                # The batch is committed: its senders hear of it whatever a listener makes of it.
                _log.failure("a commit listener failed")


def open_database(
    url: str,
    reactor: IReactorFromThreads,
    *,
    server_name: str,
    most_readers: int | None = None,
    hire: Hire | None = None,
) -> Database:
    """Open (and if need be create or upgrade) the database at `url`: `sqlite:///PATH` or `postgresql://…`.

    Blocks, so call it at start. Raises DatabaseUnusable with a message for whoever runs the server. `hire` is for
    simulations, which have no threads.
    """
    hire = hire or threads_of(reactor)
    shared = Shared(server_name)
    memory = WriterMemory(shared)
    engine = make_engine(url, shared, memory)
    connection: Connection | None = None
    try:
        connection = engine.open_writer()
        migrate(engine, connection, server_name, load_migrations(engine.dialect))
        cursor = connection.begin()
        try:
            counters = read_counters(cursor)
            memory.next_string = strings.next_nid(cursor)
            memory.gaps.update(
                nid for (nid,) in cursor.execute("SELECT DISTINCT room_nid FROM missing_prev").fetchall()
            )
        finally:
            connection.rollback()
    except BaseException as error:
        if connection is not None:
            connection.close()
        engine.close()
        if isinstance(error, ConnectionLost):
            raise DatabaseUnusable(f"the database cannot be reached: {error}") from error
        raise
    readers = hire(most_readers or 2, "storage-reader")
    return Database(engine, connection, memory, counters, readers, hire(1, "storage-writer"))


def make_engine(url: str, shared: Shared, memory: WriterMemory) -> Engine:
    if url.startswith(SQLITE):
        return SqliteEngine(Path(url.removeprefix(SQLITE)), shared, memory)
    if url.startswith(("postgresql://", "postgres://")):
        # psycopg2 takes memory and time to load, which a server on SQLite need not spend.
        from storage.postgresql import PostgresEngine

        return PostgresEngine(url, shared, memory)
    raise DatabaseUnusable(f"not a database URL: {url.partition(':')[0]}:…")

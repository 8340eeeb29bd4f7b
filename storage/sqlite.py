"""SQLite: one file, one writer, readers beside it by write-ahead log."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.errors import DatabaseBusy, DatabaseUnusable, DuplicateRow
from storage.ports import Dialect
from storage.shared import Shared, WriterMemory

_UNIQUE_ERRORS = frozenset(
    {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID}
)

WRITER_CACHE_KIB = 4_000
READER_CACHE_KIB = 1_000
"""Of pages, for each connection; what is not in there is mostly in the system's own cache."""


class SqliteCursor:
    """See `storage.ports.Cursor`."""

    __slots__ = ("_cursor", "_inserts", "_writer", "shared")

    dialect: Dialect = "sqlite"

    def __init__(self, cursor: sqlite3.Cursor, shared: Shared, writer: WriterMemory | None) -> None:
        self._cursor = cursor
        self._writer = writer
        self._inserts: dict[tuple[str, str], str] = {}
        self.shared = shared

    @property
    def is_writer(self) -> bool:
        return self._writer is not None

    @property
    def writer(self) -> WriterMemory:
        if self._writer is None:
            raise TypeError("this cursor only reads")
        return self._writer

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> SqliteCursor:
        self._cursor.execute(sql, parameters)
        return self

    def later(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._cursor.execute(sql, parameters)

    def fetchone(self) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._cursor.fetchone()
        return row

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._cursor.fetchall()

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], suffix: str = "") -> None:
        if not rows:
            return
        sql = self._inserts.get((table, suffix))
        if sql is None or sql.count("?") != len(columns):
            sql = f"INSERT INTO {table} ({','.join(columns)}) VALUES ({','.join('?' * len(columns))}) {suffix}"
            self._inserts[table, suffix] = sql
        if len(rows) == 1:
            self._cursor.execute(sql, rows[0])
        else:
            self._cursor.executemany(sql, rows)


class SqliteConnection:
    """See `storage.connection.Connection`."""

    broken = False

    def __init__(self, connection: sqlite3.Connection, shared: Shared, writer: WriterMemory | None) -> None:
        self._connection = connection
        self._begin = "BEGIN" if writer is None else "BEGIN IMMEDIATE"
        self._raw = connection.cursor()
        self._cursor = SqliteCursor(self._raw, shared, writer)

    def begin(self) -> SqliteCursor:
        self._raw.execute(self._begin)
        return self._cursor

    def commit(self) -> None:
        self._raw.execute("COMMIT")

    def rollback(self) -> None:
        # Some errors (a full disk) have already ended the transaction.
        if self._connection.in_transaction:
            self._raw.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


class SqliteEngine:
    """See `storage.connection.Engine`."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path, shared: Shared, writer_memory: WriterMemory) -> None:
        self._path = path
        self._shared = shared
        self._writer_memory = writer_memory
        self._lock: int | None = None

    def open_writer(self) -> SqliteConnection:
        try:
            self._take_lock()
            connection = self._connect(WRITER_CACHE_KIB)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except (OSError, sqlite3.DatabaseError) as error:
            raise DatabaseUnusable(f"{self._path} cannot be opened: {error}") from error
        return SqliteConnection(connection, self._shared, self._writer_memory)

    def open_reader(self) -> SqliteConnection:
        connection = self._connect(READER_CACHE_KIB)
        connection.execute("PRAGMA query_only=ON")
        return SqliteConnection(connection, self._shared, None)

    def explain(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.IntegrityError) and error.sqlite_errorcode in _UNIQUE_ERRORS:
            return DuplicateRow(str(error))
        return error

    def keep_copy(self, version: int) -> None:
        """Beside the database, as `NAME.schema-VERSION`; written whole or not at all."""
        target = self._path.with_name(f"{self._path.name}.schema-{version}")
        unfinished = target.with_name(target.name + ".unfinished")
        unfinished.unlink(missing_ok=True)
        source, copy = sqlite3.connect(self._path), sqlite3.connect(unfinished)
        try:
            source.backup(copy)
        finally:
            source.close()
            copy.close()
        unfinished.replace(target)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        # Each connection serves one thread at a time, but not always the same.
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=30
        )
        connection.execute(f"PRAGMA cache_size=-{cache_kib}")
        connection.execute("PRAGMA temp_store=MEMORY")
        return connection

    def _take_lock(self) -> None:
        """SQLite lets processes write in turn, but a second server would know nothing of the first one's rooms."""
        if self._lock is not None:
            return
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DatabaseBusy(f"{self._path} is in use by another server process") from None
        self._lock = lock

"""PostgreSQL by psycopg2: one session that writes, a few that read.

What costs most here is round trips and planning, so a cursor keeps `BEGIN`, inserts and other statements whose result
nobody looks at, and sends them together with the next statement or the commit: a batch of appends is one message to
the server and one answer. Statements that come again are prepared.

psycopg2 puts parameters into the text itself; it does so for prepared statements too (`EXECUTE name (1, 'x')`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2 import extensions

from storage.errors import CommitUnknown, ConnectionLost, DatabaseBusy, DatabaseUnusable, DuplicateRow, StorageError
from storage.ports import Dialect
from storage.shared import Shared, WriterMemory

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 15
"""How long to wait for the session of a server that was killed a moment ago to end."""

LOCK_ID = 0x6748
"""First half of the advisory lock that the writer's session holds; the schema's name gives the second."""

PREPARE_AFTER = 3
"""A statement is prepared when it was executed this many times on a connection."""

MOST_PREPARED = 400

# Every query of ours looks rows up by an index, a few at a time, and should cost the same whatever the size of the
# tables. The planner does not know that: fresh tables have no statistics, a plan made when a table was empty would read
# all of it later, and a merge join reads an index from its beginning. So it is left with nested loops over indices.
_SESSION = (
    "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET bytea_output = 'hex'; SET jit = off;"
    " SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
    " SET plan_cache_mode = force_generic_plan; SET client_min_messages = warning;"
)


def _bytes_of(value: str | None, _cursor: object) -> bytes | None:
    return None if value is None else bytes.fromhex(value[2:])


_BYTES = extensions.new_type((17,), "BYTES", _bytes_of)  # type: ignore[arg-type]


@cache
def _percent(sql: str) -> str:
    """A statement with psycopg2's placeholders in place of ours."""
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresCursor:
    """See `storage.ports.Cursor`."""

    dialect: Dialect = "postgresql"

    def __init__(self, connection: PostgresConnection, shared: Shared, writer: WriterMemory | None) -> None:
        self._connection = connection
        self._raw = connection.raw_cursor
        self._writer = writer
        self._waiting: list[bytes] = []
        self._uses: dict[str, int] = {}
        self._prepared: dict[str, str] = {}
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
        return self._raw.rowcount

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> PostgresCursor:
        self._waiting.append(self._text(sql, parameters))
        self.flush()
        return self

    def later(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._waiting.append(self._text(sql, parameters))

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._raw.fetchone()

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._raw.fetchall()

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], suffix: str = "") -> None:
        if not rows:
            return
        mogrify = self._raw.mogrify
        row_text = f"({','.join(['%s'] * len(columns))})"
        values = b",".join([mogrify(row_text, row) for row in rows])
        self._waiting.append(f"INSERT INTO {table} ({','.join(columns)}) VALUES ".encode() + values + suffix.encode())

    # ---------------------------------------------------------------------------------------- for the connection

    def begin(self, statement: bytes) -> None:
        self._waiting = [statement]

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was sent or is to be sent since `begin`."""
        return len(self._waiting) == 1 and self._waiting[0].startswith(b"BEGIN")

    def flush(self, last: bytes | None = None) -> None:
        """Send what waits, and `last` after it."""
        waiting, self._waiting = self._waiting, []
        if last is not None:
            waiting.append(last)
        self._connection.send(b";".join(waiting))

    def forget(self) -> None:
        self._waiting = []

    def prepare_frequent(self) -> None:
        """Between transactions, because a statement that cannot be prepared would end one."""
        frequent = [sql for sql, uses in self._uses.items() if uses >= PREPARE_AFTER]
        for sql in frequent:
            del self._uses[sql]
            name = f"s{len(self._prepared)}"
            numbered = "".join(f"${number}{part}" if number else part for number, part in enumerate(sql.split("?")))
            try:
                self._connection.send(f"PREPARE {name} AS {numbered}".encode())
            except psycopg2.ProgrammingError:
                # Types of its parameters cannot be told without their values: it is sent whole for ever.
                self._uses[sql] = -(2**62)
                continue
            parameters = ",".join(["%s"] * sql.count("?"))
            self._prepared[sql] = f"EXECUTE {name}({parameters})" if parameters else f"EXECUTE {name}"

    def _text(self, sql: str, parameters: Sequence[Any]) -> bytes:
        prepared = self._prepared.get(sql)
        if prepared is not None:
            return self._raw.mogrify(prepared, parameters or None)
        if len(self._prepared) + len(self._uses) < MOST_PREPARED or sql in self._uses:
            self._uses[sql] = self._uses.get(sql, 0) + 1
        if not parameters:
            return sql.encode()
        return self._raw.mogrify(_percent(sql), parameters)


class PostgresConnection:
    """See `storage.connection.Connection`."""

    def __init__(self, connection: extensions.connection, shared: Shared, writer: WriterMemory | None) -> None:
        self._connection = connection
        self._begin = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if writer is None else b"BEGIN"
        self.raw_cursor = connection.cursor()
        self._cursor = PostgresCursor(self, shared, writer)

    @property
    def broken(self) -> bool:
        return self._connection.closed != 0

    def begin(self) -> PostgresCursor:
        self._cursor.begin(self._begin)
        return self._cursor

    def commit(self) -> None:
        cursor = self._cursor
        if cursor.is_untouched:
            cursor.forget()
            return
        try:
            cursor.flush(b"COMMIT")
        except ConnectionLost as error:
            raise CommitUnknown(str(error)) from error
        if self.raw_cursor.statusmessage != "COMMIT":
            raise StorageError("a statement failed and the function went on as if it had not: nothing was written")
        cursor.prepare_frequent()

    def rollback(self) -> None:
        self._cursor.forget()
        if self.broken:
            return
        try:
            if self._connection.info.transaction_status != extensions.TRANSACTION_STATUS_IDLE:
                self.raw_cursor.execute("ROLLBACK")
        except psycopg2.Error:
            self._connection.close()

    def close(self) -> None:
        self._connection.close()

    def send(self, text: bytes) -> None:
        try:
            self.raw_cursor.execute(text)
        except psycopg2.Error as error:  # a server that dies in the midst of it makes a plain DatabaseError
            if self._connection.closed:
                raise ConnectionLost(str(error).strip()) from error
            raise


class PostgresEngine:
    """See `storage.connection.Engine`."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str, shared: Shared, writer_memory: WriterMemory) -> None:
        """`url`: whatever libpq takes as a connection string."""
        self._url = url
        self._shared = shared
        self._writer_memory = writer_memory

    def open_writer(self) -> PostgresConnection:
        connection = self._connect("SET synchronous_commit = on")
        try:
            self._take_lock(connection)
        except BaseException:
            connection.close()
            raise
        return PostgresConnection(connection, self._shared, self._writer_memory)

    def open_reader(self) -> PostgresConnection:
        return PostgresConnection(self._connect("SET default_transaction_read_only = on"), self._shared, None)

    def explain(self, error: Exception) -> Exception:
        if isinstance(error, psycopg2.errors.UniqueViolation):
            return DuplicateRow(str(error).strip())
        return error

    def keep_copy(self, version: int) -> None:
        """Nothing: an upgrade is one transaction, and copies are the business of whoever runs the database."""

    def close(self) -> None:
        """Nothing: the lock goes with the writer's session."""

    def _connect(self, setting: str) -> extensions.connection:
        try:
            given = extensions.parse_dsn(self._url)
            connection = psycopg2.connect(
                self._url,
                connect_timeout=given.get("connect_timeout", CONNECT_TIMEOUT_S),
                application_name=given.get("application_name", "guildhall"),
            )
        except psycopg2.OperationalError as error:
            raise ConnectionLost(str(error).strip()) from None
        except psycopg2.ProgrammingError as error:
            raise DatabaseUnusable(f"the database's URL cannot be read: {str(error).strip()}") from None
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise DatabaseUnusable(f"the database's encoding is {encoding}; it has to be UTF8")
        connection.autocommit = True  # transactions are begun and ended in words, together with other statements
        extensions.register_type(_BYTES, connection)
        with connection.cursor() as cursor:
            cursor.execute(_SESSION + setting)
        return connection

    def _take_lock(self, connection: extensions.connection) -> None:
        """One server writes to a database; the lock is the session's, so it goes when the server dies."""
        until = time.monotonic() + LOCK_TIMEOUT_S
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))", (LOCK_ID,))
                row = cursor.fetchone()
                if row is not None and row[0]:
                    return
                if time.monotonic() > until:
                    raise DatabaseBusy("the database is in use by another server process")
                time.sleep(0.1)

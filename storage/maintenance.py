"""What the command line does to a database: look at it, which may happen beside a running server, and what none may
have it open for: empty it, and note a change of signing keys.

All of it blocks. Nothing here creates a database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from federation.keys.ports import OwnKey
from storage import server_keys
from storage.connection import Connection, Engine
from storage.database import SQLITE, make_engine
from storage.errors import DatabaseUnusable, StorageError
from storage.migrate import check_server_name, load_migrations, migrate
from storage.ports import Cursor
from storage.shared import Shared, WriterMemory


def describe_database(url: str, server_name: str) -> str:
    """In words, what a server of this name would find there. Raises DatabaseUnusable where it could not start."""
    if (path := sqlite_path(url)) is not None and not path.exists():
        if not path.parent.is_dir():
            raise DatabaseUnusable(f"{path.parent} does not exist")
        return f"SQLite; {path} will be made at the first start"
    with open_reader(url) as cursor:
        kind = "SQLite" if cursor.dialect == "sqlite" else "PostgreSQL"
        if "meta" not in tables_of(cursor):
            return f"{kind}; empty, the tables will be made at the first start"
        check_server_name(cursor, server_name)
        row = cursor.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        version, newest = int(row[0]) if row else 0, load_migrations(cursor.dialect)[-1].version
        if version > newest:
            raise DatabaseUnusable(f"has schema {version}, and this program knows up to {newest}")
        more = f", to be upgraded to {newest} at the next start" if version < newest else ""
        return f"{kind}; schema {version}{more}"


def erase_database(url: str, server_name: str) -> None:
    """Remove all that a server of this name has stored: afterwards the database is as before its first start.

    Raises DatabaseBusy while a server has it open, WrongServerName where it belongs to another one; then nothing is
    removed. Copies that were kept before upgrades stay.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return
    engine = _engine(url)
    try:
        connection = _open(engine, write=True)
        try:
            cursor = connection.begin()
            tables = tables_of(cursor)
            if "meta" in tables:
                check_server_name(cursor, server_name)
                if path is None:
                    cursor.execute(f"DROP TABLE {', '.join(tables)} CASCADE")
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            connection.close()
        if path is not None:
            # While the lock is held, so that no server can start in between.
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    finally:
        engine.close()


def note_own_keys(url: str, server_name: str, in_use: Sequence[OwnKey], now_ms: int) -> Sequence[OwnKey]:
    """Keep these as the keys that this server signs with; those it signed with before have expired now. Gives those.

    Brings the database to this program's schema first. Raises DatabaseBusy while a server has it open, and
    DatabaseUnusable where there is none.
    """
    if (path := sqlite_path(url)) is not None and not path.exists():
        raise DatabaseUnusable(f"there is no database at {path}")
    engine = _engine(url)
    try:
        connection = _open(engine, write=True)
        try:
            migrate(engine, connection, server_name, load_migrations(engine.dialect))
            expired = server_keys.update_own(connection.begin(), in_use, now_ms)
            connection.commit()
            return expired
        except BaseException:
            connection.rollback()
            raise
        finally:
            connection.close()
    finally:
        engine.close()


def sqlite_path(url: str) -> Path | None:
    """The database's file, or None for PostgreSQL."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


@contextmanager
def open_reader(url: str) -> Iterator[Cursor]:
    """A transaction that only reads. Raises DatabaseUnusable; on SQLite the file must be there."""
    engine = _engine(url)
    try:
        connection = _open(engine, write=False)
        try:
            yield connection.begin()
        except StorageError:
            raise
        except Exception as error:  # the driver's: no database at all, or tables that may not be read
            raise DatabaseUnusable(" ".join(str(error).split())) from error
        finally:
            connection.rollback()
            connection.close()
    finally:
        engine.close()


def _engine(url: str) -> Engine:
    shared = Shared()
    return make_engine(url, shared, WriterMemory(shared))


def _open(engine: Engine, *, write: bool) -> Connection:
    try:
        return engine.open_writer() if write else engine.open_reader()
    except DatabaseUnusable:
        raise
    except Exception as error:  # whatever the driver has to say about an address that does not work
        raise DatabaseUnusable(" ".join(str(error).split())) from error


def tables_of(cursor: Cursor) -> list[str]:
    """The names of the tables that are there."""
    if cursor.dialect == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    else:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
    return [name for (name,) in cursor.execute(query).fetchall()]

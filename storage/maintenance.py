"""What the command line does to a database that no server has open: look at it, and empty it.

Both block, and neither creates or upgrades anything.
"""

from __future__ import annotations

from pathlib import Path

from storage.connection import Connection, Engine
from storage.database import SQLITE, make_engine
from storage.errors import DatabaseUnusable
from storage.migrate import check_server_name, load_migrations
from storage.ports import Cursor
from storage.shared import Shared, WriterMemory


def describe_database(url: str, server_name: str) -> str:
    """In words, what a server of this name would find there. Raises DatabaseUnusable where it could not start."""
    if (path := _sqlite_path(url)) is not None and not path.exists():
        if not path.parent.is_dir():
            raise DatabaseUnusable(f"{path.parent} does not exist")
        return f"SQLite; {path} will be made at the first start"
    engine = _engine(url)
    connection = _open(engine, write=False)
    try:
        cursor = connection.begin()
        kind = "SQLite" if engine.dialect == "sqlite" else "PostgreSQL"
        if "meta" not in _tables(cursor):
            return f"{kind}; empty, the tables will be made at the first start"
        check_server_name(cursor, server_name)
        row = cursor.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        version, newest = int(row[0]) if row else 0, load_migrations(engine.dialect)[-1].version
        if version > newest:
            raise DatabaseUnusable(f"has schema {version}, and this program knows up to {newest}")
        more = f", to be upgraded to {newest} at the next start" if version < newest else ""
        return f"{kind}; schema {version}{more}"
    finally:
        connection.rollback()
        connection.close()
        engine.close()


def erase_database(url: str, server_name: str) -> None:
    """Remove all that a server of this name has stored: afterwards the database is as before its first start.

    Raises DatabaseBusy while a server has it open, WrongServerName where it belongs to another one; then nothing is
    removed. Copies that were kept before upgrades stay.
    """
    path = _sqlite_path(url)
    if path is not None and not path.exists():
        return
    engine = _engine(url)
    try:
        connection = _open(engine, write=True)
        try:
            cursor = connection.begin()
            tables = _tables(cursor)
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


def _sqlite_path(url: str) -> Path | None:
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


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


def _tables(cursor: Cursor) -> list[str]:
    if cursor.dialect == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    else:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
    return [name for (name,) in cursor.execute(query).fetchall()]
